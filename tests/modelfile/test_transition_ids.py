"""Transition-ids, and transition models made from a topology and a tree."""

from __future__ import annotations

import re

import numpy as np
import pytest

from nnet.errors import NnetError
from nnet.modelfile.loading import open_file
from nnet.modelfile.transition_ids import (
    TransitionIds,
    chain_topology,
    make_transition_model,
    pdf_class_counts,
)
from nnet.modelfile.transitions import TransitionModel, read_topology, read_transition_model
from nnet.modelfile.trees import (
    ContextDependency,
    Leaf,
    Split,
    Table,
    left_biphone_tree,
    monophone_tree,
)
from tests.support import GOLDEN

MDL = GOLDEN / "legacy/mdl"
CHAIN = GOLDEN / "training/chain"


def transition_model(name: str) -> TransitionModel:
    return read_transition_model(open_file(MDL / name))


@pytest.mark.parametrize(
    ("model", "shown"),
    [("mono.mdl", "show_transitions.txt"), ("mono_chain.mdl", "show_transitions_chain.txt")],
)
def test_transition_ids_are_what_show_transitions_shows(model: str, shown: str) -> None:
    ids = TransitionIds(transition_model(model))
    number = 0
    pdfs: dict[str, int] = {}
    for line in (MDL / shown).read_text().splitlines():
        if line.startswith("Transition-state"):
            pdfs = {
                key: int(n)
                for key, n in re.findall(r"(pdf|forward-pdf|self-loop-pdf) = (\d+)", line)
            }
        elif "Transition-id" in line:
            number += 1
            is_loop = "[self-loop]" in line
            assert ids.is_self_loop[number] == is_loop
            expected = pdfs.get("pdf", pdfs.get("self-loop-pdf" if is_loop else "forward-pdf"))
            assert ids.pdfs[number] == expected
    assert number == len(ids.pdfs) - 1


def test_costs_of_staying_and_leaving_are_those_of_the_model() -> None:
    model = transition_model("mono.mdl")
    ids = TransitionIds(model)
    for state, loop in enumerate(ids.self_loops.tolist()):
        assert np.exp(-ids.stay_costs[state]) + np.exp(-ids.leave_costs[state]) == pytest.approx(1)
        assert -model.log_probs[loop] == pytest.approx(ids.stay_costs[state])
        assert ids.cost(ids.transition(state, 1)) == pytest.approx(0, abs=1e-6)


def test_the_chain_topology_is_kaldis() -> None:
    assert chain_topology([3, 1, 2, 4]) == read_topology(open_file(CHAIN / "topo"))


@pytest.mark.parametrize("name", ["mono.mdl", "mono_chain.mdl"])
def test_a_monophone_model_made_anew_is_kaldis(name: str) -> None:
    theirs = transition_model(name)
    tree = monophone_tree(pdf_class_counts(theirs.topology))
    ours = make_transition_model(theirs.topology, tree)
    assert ours.tuples == theirs.tuples
    assert ours.num_transition_ids == theirs.num_transition_ids


def test_pairs_of_pdfs_are_those_that_share_a_context() -> None:
    topology = chain_topology([1, 2])
    tree = left_biphone_tree({1: 2, 2: 2})
    model = make_transition_model(topology, tree)
    pairs = {
        (phone, tree.pdf((left, phone), 0), tree.pdf((left, phone), 1))
        for phone in (1, 2)
        for left in (0, 1, 2)
    }
    assert {(phone, forward, loop) for phone, _, forward, loop in model.tuples} == pairs


def test_a_tree_without_a_phone_is_refused() -> None:
    with pytest.raises(NnetError, match="no pdf for phone 3 of the topology"):
        make_transition_model(chain_topology([1, 2, 3]), monophone_tree({1: 2, 2: 2}))


def test_a_tree_that_splits_everything_else_is_accepted() -> None:
    tree = ContextDependency(1, 0, Split(0, frozenset({1}), Leaf(0), Table(-1, (Leaf(1), Leaf(2)))))
    model = make_transition_model(chain_topology([1, 2]), tree)
    assert model.tuples == ((1, 0, 0, 0), (2, 0, 1, 2))


def test_phones_begin_at_one() -> None:
    with pytest.raises(NnetError, match="phones from 1 on"):
        chain_topology([0, 1])
