"""Language models of phrases, as Vosk makes them."""

from __future__ import annotations

import logging
import math

import pytest

from nnet.errors import NnetError
from nnet.modelfile.symbols import SymbolTable
from nnet.speech.graphs.phrase_model import phrase_acceptor, phrase_model

WORDS = SymbolTable(dict(enumerate(["<eps>", "turn", "on", "off", "#0"])), "words.txt")
PHRASES = ["turn on", "turn off", "on"]


def test_words_have_half_their_shares_and_the_rest_is_for_backing_off() -> None:
    model = phrase_model(PHRASES, WORDS)
    assert model.start == 0
    after_turn = model.next_state(0, 1)
    assert model.context(after_turn) == [1]
    found = model.arc(after_turn, 2)
    assert found is not None
    assert found[1] == pytest.approx(-math.log(0.5 * 1 / 2))  # 'on' is one of two words after it
    alone = model.arc(0, 2)
    assert alone is not None
    assert alone[1] == pytest.approx(-math.log(0.5 * 2 / 8), abs=1e-6)
    assert model.final_costs[0] == pytest.approx(-math.log(0.5 * 3 / 8), abs=1e-6)
    assert model.backoff_costs[after_turn] == pytest.approx(math.log(2))


def test_the_acceptor_has_the_same_words_and_costs() -> None:
    model = phrase_model(PHRASES, WORDS, kept=0.75)
    fst = phrase_acceptor(model, 4)
    backs = fst.ilabels == 4
    assert backs.sum() == len(model) - 1
    assert (fst.nextstates[backs] == 0).all()
    assert fst.weights[backs].tolist() == pytest.approx([-math.log(0.25)] * 3)
    assert sorted(fst.weights[~backs]) == pytest.approx(sorted(model.costs))


def test_unknown_words_are_left_out_with_a_warning(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        model = phrase_model(["turn it on"], WORDS)
    assert "words that are not known are left out: it" in caplog.text
    assert model.arc(model.next_state(0, 1), 2) is not None
    with pytest.raises(NnetError, match="the grammar has no word that is known"):
        phrase_model(["it"], WORDS)
