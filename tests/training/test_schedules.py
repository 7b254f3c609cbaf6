"""Learning-rate schedules. Kaldi: get_learning_rate in steps/libs/nnet3/train/common.py."""

from __future__ import annotations

import math

import pytest

from nnet.training.schedules import SCHEDULES, Rates, learning_rate

RATES = Rates(initial=1e-2, final=1e-4)


def test_exponential_is_kaldis_formula() -> None:
    for done in (0.0, 0.3, 1.0):
        expected = 1e-2 * math.exp(done * math.log(1e-4 / 1e-2))
        assert learning_rate("exponential", RATES, done) == pytest.approx(expected)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_goes_down_from_initial_to_final(name: str) -> None:
    rates = [learning_rate(name, RATES, done / 100) for done in range(101)]
    assert rates[0] == pytest.approx(1e-2)
    assert rates[-1] == pytest.approx(1e-4)
    assert rates == sorted(rates, reverse=True)


def test_warm_up_rises_to_the_initial_rate() -> None:
    rates = Rates(1e-2, 1e-4, warmup=0.1)
    rising = [learning_rate("cosine", rates, done / 100) for done in range(11)]
    assert rising == sorted(rising)
    assert rising[0] == pytest.approx(5e-4)
    assert rising[-1] == pytest.approx(1e-2)
    assert learning_rate("cosine", rates, 1.0) == pytest.approx(1e-4)
