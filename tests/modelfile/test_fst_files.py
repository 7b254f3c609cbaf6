"""FSTs in OpenFst's files: the same back, as other programs read them, and damaged ones."""

from __future__ import annotations

import struct
from pathlib import Path

import kaldifst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnet.errors import NnetError
from nnet.modelfile.fst import (
    Fst,
    compact_acceptor_bytes,
    read_fst_file,
    read_openfst,
    vector_bytes,
    write_fst_file,
)
from nnet.modelfile.fst_paths import breadth_first, state_times
from nnet.modelfile.tokens import BinaryReader
from tests.supervisions import lattice

DEN_FST = Path(__file__).parents[1] / "golden/training/chain/den.fst"
ALL_PROPERTIES = 0x0000FFFFFFFF0000


@st.composite
def fsts(draw: st.DrawFn) -> Fst:
    states = draw(st.integers(1, 6))
    state = st.integers(0, states - 1)
    cost = st.sampled_from([0.0, 0.0, 0.5, -1.25])
    arcs = draw(st.lists(st.tuples(state, st.integers(0, 3), cost, state), max_size=12))
    return Fst.of(states, arcs, draw(st.dictionaries(state, cost)), draw(state))


def assert_same(found: Fst, expected: Fst) -> None:
    assert found.start == expected.start
    for name in ("finals", "offsets", "ilabels", "olabels", "weights", "nextstates"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)


@given(fsts())
def test_files_give_the_same_back(fst: Fst) -> None:
    for content in (vector_bytes(fst), compact_acceptor_bytes(fst)):
        assert_same(read_openfst(BinaryReader(content, "fst")), fst)


@settings(deadline=None)
@given(fst=fsts())
def test_openfst_reads_the_same_and_finds_the_same_properties(
    fst: Fst, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("fst") / "a.fst"
    write_fst_file(fst, path)
    theirs = kaldifst.StdVectorFst.read(str(path))
    assert (theirs.start, theirs.num_states) == (fst.start, fst.num_states)
    arcs = [
        (state, arc.ilabel, arc.olabel, arc.weight.value, arc.nextstate)
        for state in range(fst.num_states)
        for arc in kaldifst.ArcIterator(theirs, state)
    ]
    columns = (fst.sources, fst.ilabels, fst.olabels, fst.weights, fst.nextstates)
    assert arcs == list(zip(*(column.tolist() for column in columns), strict=True))
    (ours,) = struct.unpack_from("<Q", path.read_bytes(), 34)
    computed = kaldifst.StdVectorFst(theirs)
    computed.set_properties(0, ALL_PROPERTIES)
    assert computed.properties(ALL_PROPERTIES, True) == ours & ALL_PROPERTIES


def test_a_denominator_graph() -> None:
    fst = read_fst_file(DEN_FST)
    theirs = kaldifst.StdVectorFst.read(str(DEN_FST))
    assert (fst.num_states, fst.start) == (theirs.num_states, theirs.start)
    assert fst.num_arcs == sum(theirs.num_arcs(state) for state in range(theirs.num_states))
    assert fst.is_acceptor


def test_a_lattices_times() -> None:
    fst = lattice(5, 4, np.random.default_rng(0))
    times = state_times(fst, 5)
    assert times[0] == 0
    assert (times[fst.nextstates] == times[fst.sources] + 1).all()
    with pytest.raises(NnetError, match="whose paths all have 4 frames"):
        state_times(fst, 4)


def test_states_that_are_not_reached_are_left_out() -> None:
    fst = breadth_first(Fst.of(4, [(2, 1, 0.0, 3), (3, 1, 0.5, 2), (0, 1, 0.0, 1)], {3: 0.0}, 2))
    assert (fst.num_states, fst.start) == (2, 0)
    assert fst.nextstates.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        (b"\xd6\xfd\xb2\x7e", b"\0\0\0\0", "expected an FST in OpenFst's binary form"),
        (b"vector", b"victor", "found victor with standard arcs"),
        (b"standard", b"log64xxx", "found vector with log64xxx arcs"),
        (b"\x02\0\0\0\0\0\0\0", b"\x02\0\0\0\1\0\0\0", "expected a symbol table"),
    ],
)
def test_damage_is_found(place: bytes, change: bytes, message: str) -> None:
    content = DEN_FST.read_bytes().replace(place, change, 1)
    with pytest.raises(NnetError, match=message):
        read_openfst(BinaryReader(content, "den.fst"))


def test_arcs_to_states_that_there_are_not() -> None:
    content = vector_bytes(Fst.of(2, [(0, 1, 0.0, 1)], {1: 0.0}))
    at = content.index(struct.pack("<iifi", 1, 1, 0.0, 1)) + 12
    with pytest.raises(NnetError, match="expected arcs to states below 2"):
        read_openfst(BinaryReader(content[:at] + b"\7\0\0\0" + content[at + 4 :], "fst"))


def test_a_graph_cut_off_anywhere_is_an_error() -> None:
    content = DEN_FST.read_bytes()
    for end in range(0, len(content), 7):
        with pytest.raises(NnetError, match=r"den\.fst"):
            read_openfst(BinaryReader(content[:end], "den.fst"))


def test_a_missing_file() -> None:
    with pytest.raises(NnetError, match=r"cannot read 'none\.fst': No such file"):
        read_fst_file("none.fst")
