"""Denominator and normalization graphs: Kaldi's own, and graphs of any tree."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from nnet.data.chain.den_graph import (
    denominator_graph,
    initial_probabilities,
    normalization_graph,
    with_pdfs,
)
from nnet.data.chain.expansion import PhoneHmms, expanded
from nnet.data.chain.phone_lm import PhoneLmOptions, estimate_phone_lm
from nnet.errors import NnetError
from nnet.fst.compose import Composer
from nnet.fst.states import linear_acceptor
from nnet.modelfile.fst import Fst, read_fst_file
from nnet.modelfile.loading import open_file
from nnet.modelfile.transition_ids import chain_topology, make_transition_model, pdf_class_counts
from nnet.modelfile.transitions import read_topology, read_transition_model
from nnet.modelfile.trees import (
    ContextDependency,
    Leaf,
    Split,
    Table,
    left_biphone_tree,
    monophone_tree,
    read_tree,
)
from tests.acceptors import difference, language
from tests.support import GOLDEN

CHAIN = GOLDEN / "training/chain"
LN2 = math.log(2)


@pytest.fixture(scope="module")
def golden_hmms() -> PhoneHmms:
    model = read_transition_model(open_file(CHAIN / "mono.mdl"))
    return PhoneHmms(model, read_tree(open_file(CHAIN / "tree")))


def by_classes(place: int, subtrees: int, first: int) -> Table:
    """A subtree for each phone (0 to `subtrees` - 1) at a place, of two pdf-classes each."""
    pdfs = [first + 2 * number for number in range(subtrees)]
    return Table(place, tuple(Table(-1, (Leaf(pdf), Leaf(pdf + 1))) for pdf in pdfs))


def tree_of(width: int, central: int) -> ContextDependency:
    """A tree of 3 phones in which some neighbour matters, and one that is farther away too."""
    if width == 1:
        return monophone_tree({1: 2, 2: 2, 3: 2})
    if (width, central) == (2, 1):
        return left_biphone_tree({1: 2, 2: 2, 3: 2}, [1])
    neighbour = central - 1 if central else 1
    near = by_classes(central, 4, 0), by_classes(central, 4, 8)
    split = Split(neighbour, frozenset({0, 2}), *near)
    return ContextDependency(width, central, Split(width - 1, frozenset({3}), near[0], split))


def hmms_of(tree: ContextDependency) -> PhoneHmms:
    return PhoneHmms(make_transition_model(chain_topology([1, 2, 3]), tree), tree)


def test_kaldis_denominator_graph(golden_hmms: PhoneHmms) -> None:
    graph = denominator_graph(read_fst_file(CHAIN / "phone_lm.fst"), golden_hmms)
    assert difference(graph, read_fst_file(CHAIN / "den.fst")) < 1e-5


def test_kaldis_normalization_graph(golden_hmms: PhoneHmms) -> None:
    graph = denominator_graph(read_fst_file(CHAIN / "phone_lm.fst"), golden_hmms)
    theirs = read_fst_file(CHAIN / "normalization.fst")
    assert difference(normalization_graph(graph), theirs) < 1e-5
    assert difference(normalization_graph(read_fst_file(CHAIN / "den.fst")), theirs) < 1e-6


def test_initial_probabilities_sum_up_to_one() -> None:
    probabilities = initial_probabilities(read_fst_file(CHAIN / "den.fst"))
    assert probabilities.sum() == pytest.approx(1)
    assert (probabilities > 0).all()


@pytest.mark.parametrize(("width", "central"), [(1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (4, 1)])
def test_phones_are_expanded_in_their_context(width: int, central: int) -> None:
    tree = tree_of(width, central)
    hmms = hmms_of(tree)
    phones = [2, 3, 3, 1]
    graph = Composer(with_pdfs(expanded(linear_acceptor(phones), hmms, 1.0), hmms))
    padded = [0] * central + phones + [0] * (width - 1 - central)
    windows = [tuple(padded[i : i + width]) for i in range(len(phones))]
    for durations in itertools.product((1, 3), repeat=len(phones)):
        labels: list[int] = []
        for window, frames in zip(windows, durations, strict=True):
            first, others = (tree.pdf(window, pdf_class) + 1 for pdf_class in (0, 1))
            labels += [first] + [others] * (frames - 1)
        accepted = language(graph(linear_acceptor(labels)))
        assert accepted == {tuple(labels): pytest.approx(sum(durations) * LN2, rel=1e-5)}


def test_hmms_of_several_states_are_expanded() -> None:
    topology = read_topology(open_file(GOLDEN / "legacy/mdl/topo"))
    tree = monophone_tree(pdf_class_counts(topology))
    model = read_transition_model(open_file(GOLDEN / "legacy/mdl/mono.mdl"))
    hmms = PhoneHmms(model, tree)
    graph = with_pdfs(expanded(linear_acceptor([1, 2]), hmms, 1.0), hmms)
    probabilities = [(0, 0.5), (0, 0.5), (1, 0.5), (2, 0.25), (2, 0.75), (3, 0.25), (4, 0.25)]
    labels = [pdf + 1 for pdf, _ in probabilities]
    ids = hmms.ids
    leaving = sum(float(ids.leave_costs[state]) for state in range(5))
    loops = float(ids.stay_costs[0] + ids.stay_costs[2])
    accepted = language(Composer(graph)(linear_acceptor(labels)))
    assert accepted == {tuple(labels): pytest.approx(leaving + loops, rel=1e-5)}


@pytest.mark.parametrize(("width", "central"), [(1, 0), (2, 1), (3, 1)])
def test_a_denominator_graph_keeps_the_language_and_nearly_its_weights(
    width: int, central: int
) -> None:
    sequences = [[2, 3, 3, 1], [2, 1], [3, 1, 2, 3], [1, 3, 2]]
    hmms = hmms_of(tree_of(width, central))
    lm = estimate_phone_lm(sequences, PhoneLmOptions(ngram_order=3))
    expected = with_pdfs(expanded(lm, hmms, 1.0), hmms)
    graph = denominator_graph(lm, hmms)
    assert (graph.ilabels > 0).all()
    for sequence in sequences:
        labels = a_path(hmms, sequence)
        theirs = language(Composer(expected)(labels))
        assert language(Composer(graph)(labels)) == pytest.approx(theirs, abs=0.2)
        assert theirs


def a_path(hmms: PhoneHmms, phones: list[int]) -> Fst:
    """One of the sequences of pdfs + 1 of a sequence of phones: two frames each."""
    width, central = hmms.tree.width, hmms.tree.central_position
    padded = [0] * central + phones + [0] * (width - 1 - central)
    windows = [padded[i : i + width] for i in range(len(phones))]
    return linear_acceptor([hmms.tree.pdf(w, c) + 1 for w in windows for c in (0, 1)])


def test_states_with_many_arcs_come_first() -> None:
    graph = read_fst_file(CHAIN / "den.fst")
    arcs = np.bincount(np.concatenate((graph.sources, graph.nextstates)))
    assert (np.diff(arcs) <= 0).all()


def test_a_phone_without_an_hmm_is_refused(golden_hmms: PhoneHmms) -> None:
    with pytest.raises(NnetError, match=r"phone 7 has no HMM.*which has 4 from 1 to 4"):
        denominator_graph(estimate_phone_lm([[1, 7]]), golden_hmms)


def test_a_tree_of_another_system_is_refused() -> None:
    model = read_transition_model(open_file(CHAIN / "mono.mdl"))
    hmms = PhoneHmms(model, left_biphone_tree(dict.fromkeys(range(1, 5), 2)))
    with pytest.raises(NnetError, match="a tree and a transition model of the same system"):
        denominator_graph(estimate_phone_lm([[1, 2]]), hmms)
