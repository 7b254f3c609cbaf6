"""Operations on acceptors give what OpenFst's give, which Kaldi uses."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import kaldifst
import pytest
from hypothesis import given, settings

from nnet.fst.compose import Composer
from nnet.fst.determinize import determinized, minimized
from nnet.fst.epsilon import without_epsilons
from nnet.fst.merge import merged
from nnet.fst.states import connected, sorted_by_label, turned_around
from nnet.modelfile.fst import Fst, read_fst_file, write_fst_file
from tests.acceptors import acyclic_acceptors, language

TOLERANCE = 1e-4


def theirs(fst: Fst) -> kaldifst.StdVectorFst:
    with tempfile.TemporaryDirectory() as folder:
        write_fst_file(fst, Path(folder) / "fst")
        return kaldifst.StdVectorFst.read(f"{folder}/fst")


def ours(fst: kaldifst.StdVectorFst) -> Fst:
    with tempfile.TemporaryDirectory() as folder:
        fst.write(f"{folder}/fst")
        return read_fst_file(f"{folder}/fst")


def changed(fst: Fst, change: Callable[[kaldifst.StdVectorFst], object]) -> Fst:
    """What a function of OpenFst that changes its argument makes of an acceptor."""
    given_one = theirs(fst)
    change(given_one)
    return ours(given_one)


def check(found: Fst, expected: Fst) -> None:
    assert found.num_states == expected.num_states
    assert found.num_arcs == expected.num_arcs
    assert language(found) == pytest.approx(language(expected), abs=TOLERANCE)


@settings(max_examples=40)
@given(acyclic_acceptors())
def test_determinization_and_minimization(fst: Fst) -> None:
    fst = connected(fst)
    if fst.start < 0:
        return
    expected = kaldifst.determinize(theirs(fst))
    check(determinized(fst), ours(expected))
    kaldifst.minimize(expected)
    check(minimized(determinized(fst)), ours(expected))


@settings(max_examples=40)
@given(acyclic_acceptors(epsilons=True))
def test_removal_of_epsilons(fst: Fst) -> None:
    found = connected(without_epsilons(fst))
    assert language(found) == pytest.approx(language(changed(fst, kaldifst.rmepsilon)))


@settings(max_examples=40)
@given(acyclic_acceptors(), acyclic_acceptors())
def test_composition(first: Fst, second: Fst) -> None:
    expected = kaldifst.compose(theirs(first), theirs(sorted_by_label(second)))
    check(Composer(second)(first), ours(expected))


@settings(max_examples=40)
@given(acyclic_acceptors())
def test_merging_is_minimization_of_encoded_arcs(fst: Fst) -> None:
    found = merged(fst, 1 / 1024)
    expected = changed(fst, lambda each: kaldifst.minimize_encoded(each, 1 / 1024))
    check(found, expected)


@settings(max_examples=40)
@given(acyclic_acceptors())
def test_turning_around(fst: Fst) -> None:
    check(turned_around(fst), ours(kaldifst.reverse(theirs(fst))))
