"""Supervision from alignments and from training graphs: Kaldi's examples, and its rules."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnet.data.chain.expansion import PhoneHmms, expanded
from nnet.data.chain.supervision import (
    NoSupervisionError,
    SupervisionCutter,
    Tolerance,
    alignment_supervision,
    end_to_end_supervision,
    shortest_path_length,
)
from nnet.data.examples import read_objects
from nnet.data.phone_alignments import PhoneAlignment, read_integers, read_phone_alignment
from nnet.data.tables import read_table
from nnet.errors import NnetError
from nnet.fst.compose import Composer
from nnet.fst.states import linear_acceptor
from nnet.modelfile.chain_examples import read_chain_example
from nnet.modelfile.fst import Fst, read_fst_file, read_openfst
from nnet.modelfile.loading import open_file
from nnet.modelfile.tokens import BinaryReader
from nnet.modelfile.transitions import read_transition_model
from nnet.modelfile.trees import read_tree
from tests.acceptors import difference, language, path_difference
from tests.support import GOLDEN

CHAIN, END_TO_END = GOLDEN / "training/chain", GOLDEN / "training/chain_e2e"
TOLERANCE = Tolerance(5, 5, subsampling=3)


@cache
def hmms() -> PhoneHmms:
    model = read_transition_model(open_file(CHAIN / "mono.mdl"))
    return PhoneHmms(model, read_tree(open_file(CHAIN / "tree")))


def composer(folder) -> Composer:
    return Composer(read_fst_file(folder / "normalization.fst"))


def test_kaldis_examples_from_the_same_alignments() -> None:
    alignments = dict(read_table(f"ark:{CHAIN / 'phones_lengths.txt'}", read_phone_alignment))
    normalization = composer(CHAIN)
    cutters = {
        name: SupervisionCutter(alignment_supervision(each, hmms(), TOLERANCE), normalization)
        for name, each in alignments.items()
    }
    count = 0
    for key, example in read_objects(f"ark:{CHAIN / 'cegs_unmerged.ark'}", read_chain_example):
        name, frame = key.rsplit("-", 1)
        theirs = example.outputs[0].supervision
        ours = cutters[name].chunk(int(frame) // TOLERANCE.subsampling, theirs.frames)
        assert path_difference(ours.fsts[0], theirs.fsts[0]) < 1e-4
        assert ours.fsts[0].num_states <= theirs.fsts[0].num_states
        assert (ours.weight, ours.frames, ours.label_dim) == (1.0, theirs.frames, theirs.label_dim)
        count += 1
    assert count == 81


def graphs() -> dict[str, Fst]:
    reader = BinaryReader((END_TO_END / "graphs.ark").read_bytes(), "graphs.ark")
    found = {}
    while reader.remaining:
        name = reader.token()
        found[name] = read_openfst(reader)
    return found


def test_kaldis_end_to_end_examples_from_the_same_graphs() -> None:
    normalization = composer(END_TO_END)
    training = graphs()
    examples = list(read_objects(f"ark:{END_TO_END / 'cegs_unmerged.ark'}", read_chain_example))
    for key, example in examples:
        theirs = example.outputs[0].supervision
        ours = end_to_end_supervision(training[key], theirs.frames, hmms(), normalization)
        assert ours.end_to_end
        assert difference(ours.fsts[0], theirs.fsts[0]) == 0.0
    assert len(examples) == len(training)


def test_transcripts_expand_to_kaldis_training_graphs() -> None:
    phones = dict(read_table(f"ark:{END_TO_END / 'phones.txt'}", read_integers))
    for name, theirs in graphs().items():
        ours = expanded(linear_acceptor(phones[name]), hmms(), transition_scale=0.0)
        supervisions = [end_to_end_supervision(g, 30, hmms(), None).fsts[0] for g in (ours, theirs)]
        assert difference(*supervisions) == 0.0


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 7)), min_size=1, max_size=4),
    st.integers(0, 4),
    st.integers(2, 4),
)
def test_phones_stay_within_the_tolerance(
    pairs: list[tuple[int, int]], left: int, right: int
) -> None:
    tolerance = Tolerance(left, right, subsampling=3)
    alignment = PhoneAlignment(*np.array(pairs).T)
    try:
        supervision = alignment_supervision(alignment, hmms(), tolerance)
    except NoSupervisionError:
        output_frames = np.diff(-(-np.cumsum((0, *alignment.durations)) // 3))
        assert (output_frames < 1).any()  # of those aligned to a phone
        return
    assert supervision.frames == -(-len(alignment) // 3)
    ends = np.cumsum(alignment.durations)
    for labels in language(supervision.fsts[0]):
        assert len(labels) == supervision.frames
        phones = [(label - 1) // 2 + 1 for label in labels]
        begins = [frame for frame, label in enumerate(labels) if label % 2]
        assert [phones[frame] for frame in begins] == alignment.phones.tolist()
        for frame, phone in enumerate(phones):
            near = [
                number
                for number, end in enumerate(ends)
                if end - alignment.durations[number] - left <= 3 * frame < end + right
            ]
            assert phone in alignment.phones[near]


def test_chunks_begin_and_end_within_phones() -> None:
    alignment = PhoneAlignment(np.array([1, 2, 3]), np.array([9, 9, 9]))
    supervision = alignment_supervision(alignment, hmms(), Tolerance(0, 2, 3))
    cutter = SupervisionCutter(supervision, None)
    first, others = (1, 3, 5), (2, 4, 6)
    assert (others[0], others[0], first[1]) in language(cutter.chunk(1, 3).fsts[0])
    assert (others[0], others[0], others[0], first[1]) in language(cutter.chunk(1, 4).fsts[0])
    whole = cutter.chunk(0, supervision.frames)
    assert language(whole.fsts[0]) == language(supervision.fsts[0])


def test_too_many_phones_for_the_frames() -> None:
    alignment = PhoneAlignment(np.array([1, 2, 3]), np.array([1, 1, 1]))
    with pytest.raises(NoSupervisionError, match="1 output frames are too few"):
        alignment_supervision(alignment, hmms(), TOLERANCE)
    graph = expanded(linear_acceptor([1, 2, 3]), hmms(), 0.0)
    with pytest.raises(NoSupervisionError, match="needs 3 output frames, there are 2"):
        end_to_end_supervision(graph, 2, hmms(), None)


def test_what_the_language_model_has_not_seen_has_no_supervision() -> None:
    alignment = PhoneAlignment(np.array([1, 1, 1]), np.array([6, 6, 6]))
    supervision = alignment_supervision(alignment, hmms(), Tolerance(0, 2, 3))
    cutter = SupervisionCutter(supervision, composer(CHAIN))
    with pytest.raises(NoSupervisionError, match="accepts nothing"):
        cutter.chunk(0, supervision.frames)


def test_a_graph_of_words_is_refused() -> None:
    with pytest.raises(NnetError, match="transition-ids up to 8"):
        end_to_end_supervision(linear_acceptor([9]), 10, hmms(), None)


def test_the_shortest_path_counts_arcs() -> None:
    fst = Fst.of(3, [(0, 1, 0.0, 1), (1, 1, 0.0, 1), (1, 2, 0.0, 2), (0, 3, 9.0, 2)], {2: 0.0})
    assert shortest_path_length(fst) == 1


@pytest.mark.parametrize(("left", "right", "step"), [(-1, 5, 1), (0, 1, 3)])
def test_tolerances_are_checked(left: int, right: int, step: int) -> None:
    with pytest.raises(NnetError, match="--left-tolerance"):
        Tolerance(left, right, step)
