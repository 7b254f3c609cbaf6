"""Operations on acceptors keep the sequences that they accept, and their costs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnet.fst.compose import Composer
from nnet.fst.determinize import determinized, minimized
from nnet.fst.epsilon import without_epsilons
from nnet.fst.merge import merged, quantized
from nnet.fst.push import pushed
from nnet.fst.states import connected, linear_acceptor, reached, renumbered, turned_around
from nnet.modelfile.fst import Fst
from nnet.modelfile.fst_paths import breadth_first
from tests.acceptors import acyclic_acceptors, arcs_of, language

QUANTA = 5 / 1024
"""What determinization may be off by: half a quantum of weight for each arc, rounded up."""


@given(acyclic_acceptors(epsilons=True))
def test_removal_of_epsilons(fst: Fst) -> None:
    plain = without_epsilons(fst)
    assert (plain.ilabels != 0).all()
    assert language(plain) == pytest.approx(language(fst))


@given(acyclic_acceptors())
def test_determinization(fst: Fst) -> None:
    found = determinized(fst)
    for state in range(found.num_states):
        labels = [label for label, _, _ in arcs_of(found, state)]
        assert labels == sorted(set(labels))
    assert language(found) == pytest.approx(language(fst), abs=QUANTA)


@given(acyclic_acceptors())
def test_minimization(fst: Fst) -> None:
    found = minimized(connected(determinized(fst)))
    assert language(found) == pytest.approx(language(fst), abs=QUANTA)
    assert merged(found, 1e-3).num_states == found.num_states
    assert len({tuple(sorted(futures(found, s).items())) for s in range(found.num_states)}) == (
        found.num_states
    )


def futures(fst: Fst, state: int) -> dict[tuple[int, ...], float]:
    """What is accepted from a state on, relative to the cheapest, in steps of 0.01."""
    accepted = language(Fst(state, *(getattr(fst, n) for n in FIELDS)))
    least = min(accepted.values())
    return {labels: round(cost - least, 2) for labels, cost in accepted.items()}


FIELDS = ("finals", "offsets", "ilabels", "olabels", "weights", "nextstates")


@given(acyclic_acceptors())
def test_merging_of_states(fst: Fst) -> None:
    found = merged(fst, 1 / 1024)
    assert found.num_states <= fst.num_states
    assert language(found) == pytest.approx(language(fst))


@given(acyclic_acceptors(), acyclic_acceptors())
def test_composition(first: Fst, second: Fst) -> None:
    ours, theirs = language(first), language(second)
    both = {labels: ours[labels] + theirs[labels] for labels in ours.keys() & theirs.keys()}
    assert language(Composer(second)(first)) == pytest.approx(both)


@given(acyclic_acceptors(epsilons=True))
def test_turning_around(fst: Fst) -> None:
    backwards = {labels[::-1]: cost for labels, cost in language(fst).items()}
    assert language(turned_around(fst)) == pytest.approx(backwards)


@given(acyclic_acceptors())
def test_connecting_keeps_states_on_paths_only(fst: Fst) -> None:
    found = connected(fst)
    assert language(found) == language(fst)
    if found.start >= 0:
        assert reached(found).all()
        assert reached(turned_around(found)).all()


@given(acyclic_acceptors())
def test_numbering_breadth_first(fst: Fst) -> None:
    found = breadth_first(fst)
    assert found.start == 0
    assert language(found) == language(fst)


@given(acyclic_acceptors(), st.randoms(use_true_random=False))
def test_renumbering(fst: Fst, random) -> None:
    order = list(range(fst.num_states))
    random.shuffle(order)
    assert language(renumbered(fst, np.array(order))) == language(fst)


@given(acyclic_acceptors())
def test_pushing_makes_sums_of_all_states_equal(fst: Fst) -> None:
    fst = connected(fst)
    if fst.start < 0:
        return
    found = pushed(fst, 1e-6)
    assert language(found) == pytest.approx(language(fst), abs=1e-4)
    sums = np.exp(-found.finals.astype(float))
    np.add.at(sums, found.sources, np.exp(-found.weights.astype(float)))
    assert np.ptp(np.log(sums)) < 1e-4


def test_a_cycle_is_merged_and_pushed() -> None:
    loop = Fst.of(3, [(0, 1, 0.5, 1), (1, 1, 0.5, 2), (2, 1, 0.5, 1)], {1: 0.25, 2: 0.25})
    assert merged(loop, 1e-3).num_states == 2
    assert pushed(merged(loop, 1e-3), 1e-6).num_arcs == 2


def test_minimization_refuses_cycles() -> None:
    with pytest.raises(ValueError, match="cycles"):
        minimized(Fst.of(1, [(0, 1, 0.5, 0)], {0: 0.0}))


def test_quantization_keeps_infinity() -> None:
    values = quantized(np.array([0.3, -0.3, np.inf], np.float32), 0.25)
    assert values.tolist() == [0.25, -0.25, math.inf]


def test_a_linear_acceptor_accepts_its_sequence() -> None:
    assert language(linear_acceptor([3, 1, 2])) == {(3, 1, 2): 0.0}
