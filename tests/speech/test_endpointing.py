"""Where utterances end: Kaldi's rules and options."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnet.errors import NnetError
from nnet.speech.endpointing import Endpointing, trailing_silence
from nnet.text.options_file import OptionsFile


@pytest.mark.parametrize(
    ("silence", "cost", "length", "ended"),
    [
        (5.0, math.inf, 5.0, True),  # rule 1: nothing was said
        (4.9, 0.0, 4.9, False),
        (0.5, 2.0, 1.0, True),  # rule 2
        (0.5, 2.1, 1.0, False),
        (1.0, 8.0, 2.0, True),  # rule 3
        (1.0, 8.1, 2.0, False),
        (2.0, math.inf, 3.0, True),  # rule 4
        (1.9, math.inf, 3.0, False),
        (0.0, math.inf, 20.0, True),  # rule 5
        (0.0, math.inf, 19.9, False),
    ],
)
def test_kaldis_rules(silence: float, cost: float, length: float, ended: bool) -> None:
    assert Endpointing().has_ended(silence, cost, length) is ended


def test_options_change_rules() -> None:
    text = "--endpoint.silence-phones=1:2\n--endpoint.rule2.min-trailing-silence=0.75\n"
    file = OptionsFile.parse(text, "model.conf")
    found = Endpointing.take(file)
    file.finish()
    assert found.silence_phones == {1, 2}
    assert not found.has_ended(0.5, 0.0, 2.0)
    assert found.has_ended(0.75, 0.0, 2.0)


def test_wrong_phones_are_refused() -> None:
    file = OptionsFile.parse("--endpoint.silence-phones=SIL\n", "model.conf")
    with pytest.raises(NnetError, match=r"model\.conf: --endpoint\.silence-phones is 'SIL'"):
        Endpointing.take(file)


def test_silence_at_the_end_is_counted() -> None:
    phones = np.array([0, 1, 1, 7, 8])
    assert trailing_silence(np.array([1, 3, 2, 4, 2, 1], np.int32), phones, {1}) == 2
    assert trailing_silence(np.array([1, 2], np.int32), phones, {1}) == 2
    assert trailing_silence(np.array([3], np.int32), phones, {1}) == 0
