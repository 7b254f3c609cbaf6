"""Phone language models: Kaldi's own, and what pruning does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnet.data.chain.phone_lm import PhoneLmOptions, estimate_phone_lm
from nnet.errors import NnetError
from nnet.modelfile.fst import Fst, read_fst_file
from tests.acceptors import arcs_of, difference
from tests.support import GOLDEN

CHAIN = GOLDEN / "training/chain"


def golden_sequences() -> list[list[int]]:
    lines = (CHAIN / "phones.txt").read_text().splitlines()
    return [[int(word) for word in line.split()[1:]] for line in lines]


def cost(fst: Fst, sequence: list[int]) -> float:
    """Of a sequence, in nats; infinite if it is not accepted."""
    state, total = fst.start, 0.0
    for phone in sequence:
        found = [(c, following) for label, c, following in arcs_of(fst, state) if label == phone]
        if not found:
            return math.inf
        total, state = total + found[0][0], found[0][1]
    return total + float(fst.finals[state])


def test_kaldis_model_of_the_golden_phones() -> None:
    ours = estimate_phone_lm(golden_sequences(), PhoneLmOptions(ngram_order=3))
    assert difference(ours, read_fst_file(CHAIN / "phone_lm.fst")) == 0.0


def test_all_histories_of_the_unpruned_order_stay() -> None:
    pruned = PhoneLmOptions(ngram_order=4, no_prune_ngram_order=3, num_extra_lm_states=0)
    ours = estimate_phone_lm(golden_sequences(), pruned)
    assert difference(ours, read_fst_file(CHAIN / "phone_lm.fst")) < 1e-6


@pytest.mark.parametrize("extra", [0, 3, 10, 1000])
def test_pruning_leaves_so_many_more_histories(extra: int) -> None:
    sequences = golden_sequences()
    sizes = [
        estimate_phone_lm(sequences, PhoneLmOptions(4, 3, states)).num_states
        for states in (0, extra, 1000)
    ]
    assert sizes[0] <= sizes[1] <= sizes[2]
    assert sizes[1] <= max(sizes[0], sizes[0] + extra)


def test_more_histories_make_the_data_more_likely() -> None:
    sequences = golden_sequences()
    totals = [
        sum(cost(estimate_phone_lm(sequences, PhoneLmOptions(4, 2, extra)), s) for s in sequences)
        for extra in (0, 5, 20, 1000)
    ]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] > totals[-1]


@given(
    st.lists(st.lists(st.integers(1, 3), max_size=6), min_size=1, max_size=8),
    st.integers(2, 4).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    st.integers(0, 12),
)
def test_every_state_is_a_distribution_and_every_sequence_is_accepted(
    sequences: list[list[int]], orders: tuple[int, int], extra: int
) -> None:
    fst = estimate_phone_lm(sequences, PhoneLmOptions(*orders, extra))
    sums = np.exp(-fst.finals.astype(float))
    np.add.at(sums, fst.sources, np.exp(-fst.weights.astype(float)))
    assert sums == pytest.approx(1.0, abs=1e-5)
    assert all(math.isfinite(cost(fst, sequence)) for sequence in sequences)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ngram_order": 1}, "--ngram-order is 1"),
        ({"ngram_order": 3, "no_prune_ngram_order": 4}, "--no-prune-ngram-order is 4"),
        ({"num_extra_lm_states": -1}, "--num-extra-lm-states is -1"),
    ],
)
def test_options_are_checked(options: dict[str, int], message: str) -> None:
    with pytest.raises(NnetError, match=message):
        PhoneLmOptions(**options)


def test_phones_are_checked() -> None:
    with pytest.raises(NnetError, match="phones from 1 on"):
        estimate_phone_lm([[1, 0]])
    with pytest.raises(NnetError, match="no phone sequences"):
        estimate_phone_lm([])
