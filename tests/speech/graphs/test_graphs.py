"""Graph building: Kaldi's lexicon, LG and HCLG of digits, language models and grammars."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import kaldifst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnet.data.chain.expansion import PhoneHmms
from nnet.errors import NnetError
from nnet.fst.local_epsilons import without_local_epsilons
from nnet.fst.transducers import sorted_arcs, transducer_of
from nnet.kernels.decoding.reference import word_sequences
from nnet.modelfile.fst import Fst, read_fst_file
from nnet.modelfile.graph_files import read_decoding_graph, write_decoding_graph
from nnet.modelfile.loading import open_file
from nnet.modelfile.symbols import SymbolTable, read_label_list, read_symbols
from nnet.modelfile.transitions import read_transition_model
from nnet.modelfile.trees import read_tree
from nnet.speech.graphs.arpa import read_arpa
from nnet.speech.graphs.building import GraphScales, decoding_graph, grammar_graph
from nnet.speech.graphs.grammars import phrases_fst, rules_fst, word_list_fst
from nnet.speech.graphs.lang import make_lang, read_lang, with_lexicon, write_lang
from nnet.speech.graphs.lexicon import (
    OptionalSilence,
    Pronunciation,
    lexicon_fst,
    read_lexicon,
    with_disambiguation,
    with_word_positions,
)
from tests.graphs import DIGITS

LANG = DIGITS / "lang"
WORDS = SymbolTable(dict(enumerate(["<eps>", "turn", "on", "off", "light", "#0"])), "words.txt")


@pytest.fixture(scope="module")
def phones() -> SymbolTable:
    return read_symbols(LANG / "phones.txt")


@pytest.fixture(scope="module")
def words() -> SymbolTable:
    return read_symbols(LANG / "words.txt")


def assert_same(found: Fst, expected: Fst) -> None:
    for name in ("ilabels", "olabels", "nextstates", "offsets"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-5)
    np.testing.assert_allclose(found.finals, expected.finals, atol=1e-5)


def test_the_lexicon_is_kaldis(phones, words) -> None:
    entries = read_lexicon(LANG / "lexiconp_disambig.txt", with_probabilities=True)
    silence = OptionalSilence("SIL", 0.5, "#1")
    found = lexicon_fst(entries, phones, words, silence, ("#0", "#0"))
    assert_same(sorted_arcs(found, by_output=True), read_fst_file(LANG / "L_disambig.fst"))


def test_the_lexicon_of_a_word_list_is_kaldis(phones, words) -> None:
    entries = with_word_positions(read_lexicon(LANG / "lexicon.txt", with_probabilities=False))
    assert with_disambiguation(entries) == (entries, 0)
    found = lexicon_fst(entries, phones, words, OptionalSilence("SIL", 0.5))
    assert_same(sorted_arcs(found, by_output=True), read_fst_file(LANG / "L.fst"))


def test_homophones_and_beginnings_get_symbols() -> None:
    entries = [
        Pronunciation("two", ("T", "UW")),
        Pronunciation("too", ("T", "UW")),
        Pronunciation("tooth", ("T", "UW", "TH")),
        Pronunciation("the", ("DH",)),
    ]
    found, most = with_disambiguation(entries)
    assert [e.phones[-1] for e in found] == ["#1", "#2", "TH", "DH"]
    assert most == 2


def hmms() -> PhoneHmms:
    model = read_transition_model(open_file(DIGITS / "supervision/chain_trans_mdl"))
    return PhoneHmms(model, read_tree(open_file(DIGITS / "chain/tree")))


def test_the_graphs_of_digits_are_kaldis() -> None:
    phones = grammar_graph(read_fst_file(LANG / "L_disambig.fst"), read_fst_file(LANG / "G.fst"))
    expected = read_decoding_graph(DIGITS / "graph/LG.fst").columns()
    assert (phones.num_states, phones.num_arcs) == (expected.num_states, expected.num_arcs)
    np.testing.assert_allclose(np.sort(phones.weights), np.sort(expected.weights), atol=2e-3)
    disambiguation = read_label_list(LANG / "phones/disambig.int")
    found = decoding_graph(phones, disambiguation, hmms(), GraphScales(1.0, 1.0))
    expected = read_decoding_graph(DIGITS / "graph/HCLG.fst").columns()
    assert (found.num_states, found.num_arcs) == (expected.num_states, expected.num_arcs)
    assert sorted(found.ilabels) == sorted(expected.ilabels)
    assert sorted(found.olabels) == sorted(expected.olabels)
    np.testing.assert_allclose(np.sort(found.weights), np.sort(expected.weights), atol=2e-3)


def arcs_of(fst: Fst) -> list[tuple[int, int, int, float, int]]:
    columns = (fst.sources, fst.ilabels, fst.olabels, fst.weights, fst.nextstates)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def accepted(fst: Fst, frames: int, labels: int) -> dict[tuple, float]:
    """The cost of each output for each sequence of inputs, by definition."""
    pdfs = [-1, *range(labels)]
    found = {}
    for inputs in itertools.product(range(labels), repeat=frames):
        scores = np.full((frames, labels), -np.inf)
        scores[np.arange(frames), inputs] = 0.0
        ends = word_sequences(arcs_of(fst), fst.finals.tolist(), fst.start, pdfs, scores)
        found |= {(inputs, words): cost for words, cost in ends.items() if cost < np.inf}
    return found


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_removing_local_epsilons_changes_no_cost(data: st.DataObject) -> None:
    states = data.draw(st.integers(1, 5))
    state, label = st.integers(0, states - 1), st.integers(0, 2)
    cost = st.integers(0, 8).map(lambda x: x / 4)
    arcs = data.draw(st.lists(st.tuples(state, label, label, cost, state), max_size=9))
    arcs = [arc for arc in arcs if arc[1] or arc[0] < arc[4]]
    finals = data.draw(st.dictionaries(state, cost, min_size=1))
    fst = transducer_of(states, arcs, finals)
    found = without_local_epsilons(fst)
    expected = {frames: accepted(fst, frames, 2) for frames in (0, 1, 2)}
    if found.start < 0:
        assert not any(expected.values())
        return
    for frames, outputs in expected.items():
        assert accepted(found, frames, 2) == pytest.approx(outputs, abs=1e-5)


def test_graphs_are_written_as_openfst_reads_them(tmp_path: Path) -> None:
    expected = read_decoding_graph(DIGITS / "graph/HCLG.fst")
    write_decoding_graph(expected.columns(), tmp_path / "HCLG.fst")
    assert (tmp_path / "HCLG.fst").read_bytes() == (DIGITS / "graph/HCLG.fst").read_bytes()
    theirs = kaldifst.StdConstFst.read(str(tmp_path / "HCLG.fst"))
    assert theirs.start == expected.start


ARPA = """\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-1.0 turn -0.5
-0.5 on
-99 <s> -0.25
-0.75 </s>

\\2-grams:
-0.125 <s> turn
-0.25 turn on

\\end\\
"""


def cost_of(fst: Fst, sentence: list[int], backoff: int) -> float:
    arcs = [arc if arc[1] != backoff else (arc[0], 0, 0, *arc[3:]) for arc in arcs_of(fst)]
    pdfs = [-1, *range(len(WORDS))]
    scores = np.full((len(sentence), len(WORDS)), -np.inf)
    scores[np.arange(len(sentence)), [word - 1 for word in sentence]] = 0.0
    ends = word_sequences(arcs, fst.finals.tolist(), fst.start, pdfs, scores)
    return min(ends.values(), default=math.inf)


def test_an_arpa_model_gives_its_costs(tmp_path: Path) -> None:
    (tmp_path / "lm.arpa").write_text(ARPA)
    fst, left_out = read_arpa(tmp_path / "lm.arpa", WORDS)
    assert not left_out
    costs = {(1, 2): 0.125 + 0.25 + 0.75, (2,): 0.25 + 0.5 + 0.75, (1, 1): 0.125 + 1.5 + 0.5 + 0.75}
    for sentence, cost in costs.items():
        found = cost_of(fst, list(sentence), WORDS.label("#0"))
        assert found == pytest.approx(cost * math.log(10), abs=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-0.5 on", "-0.5 on a b", r"lm.arpa:7: expected a log10 probability, 1 words and at most"),
        ("ngram 2=2", "ngram 2=3", r"lm.arpa: expected 3, found 2 2-grams"),
        ("\\end\\", "", r"lm.arpa: expected \\end\\, found the end of the file"),
        ("\\2-grams:", "\\3-grams:", r"lm.arpa:11: expected \\2-grams:"),
    ],
)
def test_a_damaged_arpa_model_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "lm.arpa").write_text(ARPA.replace(old, new))
    with pytest.raises(NnetError, match=message.replace("\\", "\\\\").replace("\\\\\\\\", "\\\\")):
        read_arpa(tmp_path / "lm.arpa", WORDS)


def sentences(fst: Fst, most: int = 4) -> dict[str, float]:
    found = {}
    for size in range(most + 1):
        for labels in itertools.product(range(1, 5), repeat=size):
            cost = cost_of(fst, list(labels), -1)
            if cost < math.inf:
                found[WORDS.text(labels)] = cost
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("turn on", {"turn on"}),
        ("turn (on | off) [light]", {"turn on", "turn off", "turn on light", "turn off light"}),
        ("on*", {"", "on", "on on", "on on on", "on on on on"}),
        ("(on off)+", {"on off", "on off on off"}),
        ("<a> = on | off; <b> = turn <a>;", {"turn on", "turn off"}),
        ("#JSGF V1.0; grammar g; public <a> = turn <b>; <b> = on;", {"turn on"}),
    ],
)
def test_rules(text: str, expected: set[str]) -> None:
    assert set(sentences(rules_fst(text, WORDS))) == expected


def test_weights_of_rules() -> None:
    found = sentences(rules_fst("/0.75/ on | /0.25/ off", WORDS))
    assert found == pytest.approx({"on": -math.log(0.75), "off": -math.log(0.25)}, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("turn (on", r"g:1:9: expected \), found 'the end'"),
        ("turn\nlihgt", r"g:2:1: expected words of words.txt, found 'lihgt'"),
        ("turn | ", r"g:1:8: expected words, found 'the end'"),
        ("<a> = on <a>;", r"g:1:10: expected a rule that is there and does not contain itself"),
        ("<a> = on", "g:1:9: expected ';' at the end of a rule"),
    ],
)
def test_wrong_rules_are_refused(text: str, message: str) -> None:
    with pytest.raises(NnetError, match=message):
        rules_fst(text, WORDS, "g")


def test_phrases_and_word_lists() -> None:
    assert set(sentences(phrases_fst(["turn on", "light"], WORDS), 2)) == {
        "", "light", "turn on", "light light",
    }  # fmt: skip
    total = sum(math.exp(-c) for c in sentences(word_list_fst([("on", 0.4)], WORDS), 4).values())
    assert total == pytest.approx(1 - 0.4**5, abs=1e-4)
    with pytest.raises(NnetError, match="has no symbol 'of'; did you mean"):
        phrases_fst(["turn of"], WORDS)


def test_a_lang_folder_is_made_written_and_read(tmp_path: Path) -> None:
    entries = read_lexicon(LANG / "lexicon.txt", with_probabilities=False)
    lang = make_lang(entries, ["SIL", "SPN"], "SIL", unknown="<UNK>")
    write_lang(lang, tmp_path / "lang")
    found = read_lang(tmp_path / "lang")
    assert found.phones.labels == read_symbols(LANG / "phones.txt").labels
    assert_same(found.plain_lexicon, lang.plain_lexicon)
    for name in ("word_boundary.int", "disambig.int", "silence.csl", "optional_silence.int"):
        assert (tmp_path / "lang/phones" / name).read_text() == (LANG / "phones" / name).read_text()
    expected = sorted((LANG / "phones/align_lexicon.txt").read_text().splitlines())
    assert sorted((tmp_path / "lang/phones/align_lexicon.txt").read_text().splitlines()) == expected


def test_another_lexicon_keeps_the_phones() -> None:
    lang = read_lang(LANG)
    entries = [Pronunciation("won", ("W", "AH", "N")), Pronunciation("one", ("W", "AH", "N"))]
    found = with_lexicon(lang, entries)
    assert {found.phones.labels[name] for name in ("W_B", "SIL")} == {
        lang.phones.labels[name] for name in ("W_B", "SIL")
    }
    assert len(found.disambiguation) == 4
    with pytest.raises(NnetError, match=r"the lexicon has 'XX_S', which is not in phones\.txt"):
        with_lexicon(lang, [Pronunciation("x", ("XX",))])
