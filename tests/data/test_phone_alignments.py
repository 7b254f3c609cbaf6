"""Phones with their lengths: tables, and the phones of transition-id alignments."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnet.data.errors import TableError
from nnet.data.phone_alignments import (
    PhoneAlignment,
    PhoneAlignmentWriter,
    TransitionAlignmentReader,
    phones_of_transitions,
    read_phone_alignment,
)
from nnet.data.tables import read_table
from nnet.data.writers import AlignmentWriter
from nnet.errors import NnetError
from nnet.modelfile.loading import open_file
from nnet.modelfile.transition_ids import TransitionIds
from nnet.modelfile.transitions import read_transition_model
from tests.support import GOLDEN

LENGTHS = GOLDEN / "training/chain/phones_lengths.txt"
PAIRS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9)), min_size=1, max_size=5)


def alignment(pairs: list[tuple[int, int]]) -> PhoneAlignment:
    return PhoneAlignment(*np.array(pairs, np.int64).T)


def pairs_of(found: PhoneAlignment) -> list[tuple[int, int]]:
    return list(zip(found.phones.tolist(), found.durations.tolist(), strict=True))


@pytest.mark.parametrize("form", ["ark", "ark,t"])
def test_tables_are_written_and_read(tmp_path: Path, form: str) -> None:
    theirs = dict(read_table(f"ark:{LENGTHS}", read_phone_alignment))
    assert pairs_of(theirs["utt01"])[:2] == [(1, 6), (4, 13)]
    with PhoneAlignmentWriter(f"{form}:{tmp_path}/phones") as writer:
        for name, each in theirs.items():
            writer.write(name, each)
    again = dict(read_table(f"ark:{tmp_path}/phones", read_phone_alignment))
    assert {n: pairs_of(a) for n, a in again.items()} == {n: pairs_of(a) for n, a in theirs.items()}
    if form == "ark,t":
        words = [re.sub(" +", " ", p.read_text()) for p in (tmp_path / "phones", LENGTHS)]
        assert words[0] == words[1]


@given(PAIRS, st.integers(1, 60))
def test_an_alignment_is_made_to_last(pairs: list[tuple[int, int]], frames: int) -> None:
    given_one = alignment(pairs)
    lasting = given_one.lasting(frames)
    assert len(lasting) == frames
    frame_phones = np.repeat(given_one.phones, given_one.durations)
    shared = min(frames, len(given_one))
    assert (np.repeat(lasting.phones, lasting.durations)[:shared] == frame_phones[:shared]).all()


def transitions_of(ids: TransitionIds, pairs: list[tuple[int, int]], *, reorder: bool) -> list[int]:
    """Transition-ids of 3-state HMMs; the loops of a phone are all in its first state."""
    found = []
    for phone, frames in pairs:
        own = [t for t in range(1, len(ids.phones)) if ids.phones[t] == phone]
        forward = [t for t in own if not ids.is_self_loop[t]]
        loop = int(ids.self_loops[ids.states[forward[0]]])
        loops = [loop] * (frames - len(forward))
        found += [forward[0], *loops, *forward[1:]] if reorder else [*loops, *forward]
    return found


@pytest.mark.parametrize("reorder", [True, False])
@given(pairs=st.lists(st.tuples(st.integers(1, 4), st.integers(3, 9)), min_size=1, max_size=5))
def test_phones_of_a_transition_alignment(reorder: bool, pairs: list[tuple[int, int]]) -> None:
    ids = TransitionIds(read_transition_model(open_file(GOLDEN / "legacy/mdl/mono.mdl")))
    transitions = transitions_of(ids, pairs, reorder=reorder)
    assert pairs_of(phones_of_transitions(np.array(transitions), ids)) == [
        (phone, max(frames, sum((ids.phones == phone) & ~ids.is_self_loop)))
        for phone, frames in pairs
    ]


@given(pairs=PAIRS)
def test_phones_of_a_chain_alignment(pairs: list[tuple[int, int]]) -> None:
    model = read_transition_model(open_file(GOLDEN / "training/chain/mono.mdl"))
    ids = TransitionIds(model)
    transitions = []
    for phone, frames in pairs:
        loop, forward = (ids.transition(phone - 1, place) for place in (0, 1))
        transitions += [forward, *[loop] * (frames - 1)]
    assert pairs_of(phones_of_transitions(np.array(transitions), ids)) == pairs


def test_damaged_alignments_are_named(tmp_path: Path) -> None:
    for text, message in (("a 1 2 3\n", "PHONE FRAMES ;"), ("a 0 2\n", "phones from 1 on")):
        (tmp_path / "ali").write_text(text)
        with pytest.raises(TableError, match=message):
            list(read_table(f"ark:{tmp_path}/ali", read_phone_alignment))
    ids = TransitionIds(read_transition_model(open_file(GOLDEN / "training/chain/mono.mdl")))
    with AlignmentWriter(f"ark:{tmp_path}/ali") as writer:
        writer.write("a", np.array([1, 9], np.int32))
    with pytest.raises(TableError, match="transition-ids from 1 to 8"):
        list(read_table(f"ark:{tmp_path}/ali", TransitionAlignmentReader(ids)))
    with pytest.raises(NnetError, match="transition-ids from 1 to 8"):
        phones_of_transitions(np.zeros(0, np.int64), ids)
