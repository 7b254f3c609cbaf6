"""Lattices: Kaldi's results on digits, and what holds for all lattices."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnet.data.lattices import read_lattice
from nnet.data.tables import read_table
from nnet.errors import NnetError
from nnet.kernels.decoding.cpu import STEP
from nnet.modelfile.fst import read_fst_file
from nnet.modelfile.graph_files import read_decoding_graph
from nnet.modelfile.lattices import CompactLattice, Lattice, compact_lattice
from nnet.modelfile.loading import open_file
from nnet.modelfile.symbols import SymbolTable, read_symbols
from nnet.modelfile.transition_ids import TransitionIds
from nnet.modelfile.transitions import read_transition_model
from nnet.modelfile.word_boundary import read_align_lexicon, read_word_boundary
from nnet.speech.decoding import DecoderOptions, SearchGraph, decode
from nnet.speech.lattices.confidence import minimum_bayes_risk
from nnet.speech.lattices.ctm import ctm_lines, word_times
from nnet.speech.lattices.determinization import determinized
from nnet.speech.lattices.oracle import oracle
from nnet.speech.lattices.paths import Scales, best_path, paths, pruned
from nnet.speech.lattices.rescoring import BackoffModel, rescored
from nnet.speech.lattices.word_alignment import BoundaryFinder, LexiconFinder, WordAligner
from tests.graphs import DIGITS
from tests.support import table

BEAM = 8.0
FRAME_SHIFT = 0.03
MOST = 500
Costs = dict[tuple[int, ...], tuple[float, float, tuple[int, ...]]]


@pytest.fixture(scope="module")
def ids() -> TransitionIds:
    return TransitionIds(read_transition_model(open_file(DIGITS / "supervision/chain_trans_mdl")))


@pytest.fixture(scope="module")
def kaldis() -> dict[str, CompactLattice]:
    return dict(read_table(f"ark:{DIGITS}/dev/lattices.txt", read_lattice))


@pytest.fixture(scope="module")
def words() -> SymbolTable:
    return read_symbols(DIGITS / "graph/words.txt")


@pytest.fixture(scope="module")
def aligned(ids, kaldis) -> dict[str, CompactLattice]:
    places = read_word_boundary(DIGITS / "lang/phones/word_boundary.int")
    aligner = WordAligner(ids, BoundaryFinder(places))
    return {name: aligner(lattice) for name, lattice in kaldis.items()}


def by_words(lattice: CompactLattice, beam: float = BEAM) -> Costs:
    """Costs and transition-ids of the word sequences near the best one."""
    best = best_path(lattice)
    most = best.graph_cost + best.acoustic_cost + beam - 1e-3
    found = {}
    for path in itertools.islice(paths(lattice), MOST):
        if path.graph_cost + path.acoustic_cost > most:
            break
        costs = (path.graph_cost, path.acoustic_cost, tuple(path.transitions.tolist()))
        assert tuple(path.words.tolist()) not in found
        found[tuple(path.words.tolist())] = costs
    return found


def assert_equivalent(found: Costs, expected: Costs) -> None:
    assert set(found) == set(expected)
    for sequence, costs in expected.items():
        assert found[sequence][:2] == pytest.approx(costs[:2], abs=1e-3)
        assert found[sequence][2] == costs[2]


def test_determinized_lattices_are_equivalent_to_kaldis(ids, kaldis) -> None:
    graph = SearchGraph.static(read_decoding_graph(DIGITS / "graph/HCLG.fst"), ids)
    options = DecoderOptions(beam=15, lattice_beam=BEAM, max_active=7000, acoustic_scale=1)
    outputs = {
        name: rows for name, rows in table(DIGITS / "dev/output.ark").items() if name in kaldis
    }
    assert len(outputs) == 6
    for decoded in decode(outputs.items(), graph, options, with_lattices=True):
        assert decoded.lattice is not None
        found = determinized(decoded.lattice, BEAM)
        assert_equivalent(by_words(found), by_words(kaldis[decoded.name]))


@st.composite
def raw_lattices(draw: st.DrawFn) -> Lattice:
    states = draw(st.integers(2, 6))
    arcs = []
    for target in range(1, states):
        for _ in range(draw(st.integers(1, 3))):
            source = draw(st.integers(0, target - 1))
            label, word = draw(st.integers(0, 3)), draw(st.integers(0, 2))
            arcs.append((source, target, label, word, draw(st.integers(0, 8)) / 4, 0.5))
    finals = np.full(states, np.inf, np.float32)
    finals[-1] = 0.25
    finals[draw(st.integers(0, states - 1))] = 0.5
    return Lattice.of_arcs(0, finals, np.array(arcs, STEP))


@settings(max_examples=150, deadline=None)
@given(lattice=raw_lattices(), beam=st.sampled_from([0.6, 2.1, 50.0]))
def test_determinization_keeps_the_cheapest_path_of_each_word_sequence(
    lattice: Lattice, beam: float
) -> None:
    cheapest: dict[tuple[int, ...], float] = {}
    for path in paths(lattice):
        key = tuple(path.words.tolist())
        cheapest.setdefault(key, path.graph_cost + path.acoustic_cost)
    if not cheapest:
        return
    least = min(cheapest.values())
    expected = {key: cost for key, cost in cheapest.items() if cost <= least + beam}
    found = {
        key: costs[0] + costs[1]
        for key, costs in by_words(determinized(lattice, beam), 1e9).items()
    }
    assert {key: cost for key, cost in found.items() if cost <= least + beam} == pytest.approx(
        expected, abs=1e-4
    )
    for state in range((deterministic := determinized(lattice, beam)).num_states):
        after = deterministic.words[slice(*deterministic.offsets[state : state + 2])].tolist()
        assert len(after) == len(set(after))


def test_word_times_are_kaldis(aligned, words) -> None:
    expected = (DIGITS / "dev/words.ctm").read_text().splitlines()
    found = []
    for name, lattice in aligned.items():
        times = word_times(lattice, best_path(lattice))
        found += ctm_lines(name, times, words, FRAME_SHIFT, with_confidence=False)
    assert found == [line.strip() for line in expected[: len(found)]]


def test_aligned_lattices_have_the_same_paths(aligned, kaldis) -> None:
    for name, lattice in aligned.items():
        assert_equivalent(by_words(lattice), by_words(kaldis[name]))


def test_a_lexicon_aligns_words_as_the_places_of_phones_do(ids, kaldis, aligned, words) -> None:
    phones = read_symbols(DIGITS / "lang/phones.txt")
    entries = read_align_lexicon(DIGITS / "lang/phones/align_lexicon.txt", words, phones)
    aligner = WordAligner(ids, LexiconFinder(entries))
    for name, lattice in kaldis.items():
        found = aligner(lattice)
        times = word_times(found, best_path(found))
        assert times == word_times(aligned[name], best_path(aligned[name]))
        assert_equivalent(by_words(found), by_words(lattice))


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_confidences_and_times_are_kaldis(scale: float, aligned, words) -> None:
    expected = (DIGITS / f"dev/confidence_{scale}.ctm").read_text().splitlines()
    found = []
    for name, lattice in aligned.items():
        risk = minimum_bayes_risk(lattice, Scales(acoustic=scale))
        found += ctm_lines(name, risk.words, words, FRAME_SHIFT, with_confidence=True)
    assert found == [line.strip() for line in expected[: len(found)]]


def test_confidences_of_given_words(aligned) -> None:
    lattice = aligned["theo-000"]
    risk = minimum_bayes_risk(lattice, words=[8, 7], decode=False)
    assert [word.word for word in risk.words] == [8, 7]
    assert risk.words[0].confidence < 0.5 < risk.words[1].confidence
    assert risk.risk > minimum_bayes_risk(lattice).risk


def nbest(name: str) -> dict[str, list[str]]:
    lines = (DIGITS / "dev" / name).read_text().splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines}


def test_the_n_best_paths_are_kaldis(kaldis, words) -> None:
    texts, acoustic, graph = (nbest(f"{name}.txt") for name in ("nbest", "nbest_ac", "nbest_lm"))
    most = max(int(key.rpartition("-")[2]) for key in texts)
    found = {
        f"{name}-{number}": path
        for name, lattice in kaldis.items()
        for number, path in enumerate(itertools.islice(paths(lattice), most), 1)
    }
    assert list(found) == list(texts)
    for key, path in found.items():
        assert words.text(path.words.tolist()).split() == texts[key]
        assert path.graph_cost == pytest.approx(float(graph[key][0]), abs=2e-3)
        assert path.acoustic_cost == pytest.approx(float(acoustic[key][0]), abs=2e-3)


def test_pruning_keeps_exactly_the_paths_within_the_beam(kaldis) -> None:
    lattice = kaldis["theo-003"]
    assert set(by_words(pruned(lattice, 3.0), 3.0)) == set(by_words(lattice, 3.0))
    assert pruned(lattice, 3.0).num_arcs < lattice.num_arcs
    assert pruned(lattice, 0.0).num_arcs == len(best_path(lattice).arcs)


def test_the_oracle_is_at_least_as_good_as_the_best_path(kaldis, words) -> None:
    texts = {line.split()[0]: line.split()[1:] for line in (DIGITS / "dev/text").open()}
    total = 0
    for name, lattice in kaldis.items():
        reference = [words.label(word) for word in texts[name]]
        found = oracle(lattice, reference)
        assert found.words in by_words(lattice, 1e9)
        assert found.errors == min(distance(key, reference) for key in by_words(lattice, 1e9))
        total += found.errors
    assert total < sum(
        distance(best_path(lattice).words.tolist(), [words.label(w) for w in texts[name]])
        for name, lattice in kaldis.items()
    )


def distance(found, expected) -> int:
    row = list(range(len(expected) + 1))
    for i, word in enumerate(found, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(expected, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def test_taking_a_language_model_away_and_adding_it_changes_nothing(kaldis, words) -> None:
    model = BackoffModel(read_fst_file(DIGITS / "lang/G.fst"), backoff=words.label("#0"))
    for lattice in kaldis.values():
        found = rescored(rescored(lattice, model, -1.0), model)
        assert_equivalent(by_words(found), by_words(lattice))


def test_rescoring_adds_the_cost_of_each_word(kaldis, words) -> None:
    model = BackoffModel(read_fst_file(DIGITS / "lang/G.fst"), backoff=words.label("#0"))
    lattice = kaldis["theo-000"]
    before, after = by_words(lattice, 1e9), by_words(rescored(lattice, model, 2.0), 1e9)
    for sequence, (graph, acoustic, _) in before.items():
        cost, state = 0.0, model.start
        for word in sequence:
            step = model.follow(state, word)
            assert step is not None
            state, cost = step[0], cost + step[1]
        expected = graph + 2 * (cost + model.end(state))
        assert after[sequence][:2] == pytest.approx((expected, acoustic), abs=1e-3)


def test_wrong_lattices_are_refused(ids) -> None:
    cyclic = compact_lattice(2, [(0, 1, 0, 0, [], 1), (1, 1, 0, 0, [], 0)], {1: (0, 0, [])})
    with pytest.raises(NnetError, match="the lattice has cycles"):
        best_path(cyclic)
    with pytest.raises(NnetError, match="the lattice has no path"):
        best_path(compact_lattice(1, [], {}))
    other = compact_lattice(2, [(0, 1, 0, 0, [9999], 1)], {1: (0, 0, [])})
    with pytest.raises(NnetError, match="has transition-ids outside 1 to"):
        WordAligner(ids, BoundaryFinder({}))(other)
    short = compact_lattice(2, [(0, 1, 0, 0, [2, 1], 1)], {1: (0, 0, [])})
    with pytest.raises(NnetError, match=r"word_boundary.int has no phone 1"):
        WordAligner(ids, BoundaryFinder({}))(short)
