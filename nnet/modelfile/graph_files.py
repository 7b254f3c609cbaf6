"""Decoding graphs in the order of OpenFst's `const` type, mapped into memory where they are large.

A decoding graph has millions of arcs, so it is kept as the file has it and nothing is copied.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.modelfile.fst import (
    ALIGNED,
    ARC,
    Fst,
    Header,
    header_bytes,
    read_header,
    read_header_symbols,
    read_openfst,
)
from nnet.modelfile.fst_properties import EXPANDED
from nnet.modelfile.tokens import BinaryReader
from nnet.modelfile.writing import save_bytes

Integers = NDArray[np.int64]
STATE = np.dtype(
    [
        ("final", "<f4"),
        ("first", "<u4"),
        ("arcs", "<u4"),
        ("input_epsilons", "<u4"),
        ("output_epsilons", "<u4"),
    ]
)
"""A state: its final cost, its first arc, how many it has, and how many with label 0."""
ALIGNMENT = 16
FIRST_ALIGNED_VERSION = 1


@dataclass(frozen=True, eq=False)
class DecodingGraph:
    """A transducer from transition-ids to words, over the tropical semiring.

    Args:
        start: the start state.
        states: of type `STATE`, (states,).
        arcs: of type `nnet.modelfile.fst.ARC`, (arcs,); weights are costs in nats.
        name: of its file, for errors.
    """

    start: int
    states: np.ndarray
    arcs: np.ndarray
    name: str = "a decoding graph"

    def __post_init__(self) -> None:
        """Checks that arcs and states are inside the graph.

        Raises:
            NnetError: they are not, or the graph is empty.
        """
        count, arcs = len(self.states), self.arcs
        if not 0 <= self.start < count:
            raise NnetError(f"{self.name}: the graph is empty; expected: one with a start state")
        ends = self.states["first"].astype(np.uint64) + self.states["arcs"]
        if ends.max(initial=0) > len(arcs):
            state = int(np.argmax(ends > len(arcs)))
            raise NnetError(
                f"{self.name}: state {state} has arcs up to {ends[state]} of {len(arcs)}; the "
                "file is damaged"
            )
        for field, limit in (("nextstate", count), ("ilabel", 2**31), ("olabel", 2**31)):
            column = arcs[field]
            if len(column) and not (column.min() >= 0 and column.max() < limit):
                arc = int(np.argmax((column < 0) | (column >= limit)))
                raise NnetError(
                    f"{self.name}: arc {arc} has {field} {column[arc]}; expected 0 to {limit - 1}; "
                    "the file is damaged"
                )
        costs = arcs["weight"]
        if np.isnan(costs).any() or np.isnan(self.states["final"]).any():
            raise NnetError(f"{self.name}: a cost is no number; the file is damaged")

    @staticmethod
    def of(fst: Fst, name: str = "a decoding graph") -> DecodingGraph:
        """The same graph from columns."""
        arcs = np.empty(fst.num_arcs, ARC)
        arcs["ilabel"], arcs["olabel"] = fst.ilabels, fst.olabels
        arcs["weight"], arcs["nextstate"] = fst.weights, fst.nextstates
        states = np.zeros(fst.num_states, STATE)
        states["final"], states["first"] = fst.finals, fst.offsets[:-1]
        states["arcs"] = np.diff(fst.offsets)
        for field, labels in (("input_epsilons", fst.ilabels), ("output_epsilons", fst.olabels)):
            states[field] = np.bincount(fst.sources, labels == 0, fst.num_states)
        return DecodingGraph(fst.start, states, arcs, name)

    def columns(self) -> Fst:
        """The same graph as columns of arcs; all of it is copied."""
        counts = self.states["arcs"].astype(np.int64)
        offsets = np.concatenate(([0], np.cumsum(counts)))
        places = np.arange(offsets[-1]) + np.repeat(
            self.states["first"].astype(np.int64) - offsets[:-1], counts
        )
        arcs = self.arcs[places]
        return Fst(
            self.start,
            self.states["final"].copy(),
            offsets,
            arcs["ilabel"].astype(np.int64),
            arcs["olabel"].astype(np.int64),
            arcs["weight"].copy(),
            arcs["nextstate"].astype(np.int64),
        )


def write_decoding_graph(fst: Fst, path: str | os.PathLike[str]) -> None:
    """Writes a graph as OpenFst's `const` type, which can be mapped into memory.

    Raises:
        NnetError: the file cannot be written.
    """
    graph = DecodingGraph.of(fst, os.fspath(path))
    header = header_bytes("const", fst, EXPANDED)
    save_bytes(header + graph.states.tobytes() + graph.arcs.tobytes(), path)


def mapped_file(path: str | os.PathLike[str]) -> BinaryReader:
    """A reader of a file that is mapped into memory.

    Raises:
        NnetError: it cannot be read, or is empty.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as stream:
            return BinaryReader(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), name)
    except ValueError:
        raise NnetError(f"{name}: the file is empty; expected: an FST of OpenFst") from None
    except OSError as error:
        raise NnetError(f"{name}: cannot read: {error.strerror}") from None


def read_decoding_graph(path: str | os.PathLike[str]) -> DecodingGraph:
    """The graph in a file such as `HCLG.fst`, of OpenFst's type vector or const.

    Raises:
        NnetError: there is no such file, or it holds no FST with standard arcs.
    """
    reader = mapped_file(path)
    header = read_header(reader)
    if header.kind == "const":
        return read_const(reader, header)
    reader.position = header.place
    return DecodingGraph.of(read_openfst(reader), reader.name)


def read_const(reader: BinaryReader, header: Header) -> DecodingGraph:
    """The graph after a header of type const, as a view of the reader's bytes.

    Raises:
        NnetError: it was cut short or is damaged.
    """
    if header.arc_type != "standard":
        reader.fail("an FST with standard arcs", f"{header.arc_type} arcs", at=header.place)
    read_header_symbols(reader, header)
    is_aligned = bool(header.flags & ALIGNED) or header.version == FIRST_ALIGNED_VERSION
    states = view(reader, STATE, header.states, "the states of a graph", is_aligned)
    arcs = view(reader, ARC, header.arcs, "the arcs of a graph", is_aligned)
    return DecodingGraph(header.start, states, arcs, reader.name)


def view(
    reader: BinaryReader, kind: np.dtype, count: int, what: str, is_aligned: bool = False
) -> np.ndarray:
    """The next `count` items of a type, as a view of the reader's bytes.

    Raises:
        NnetError: there are not so many.
    """
    if is_aligned:
        reader.position += -reader.position % ALIGNMENT
    if not 0 <= count <= reader.remaining // kind.itemsize:
        reader.fail(f"{count} of {what}", f"only {reader.remaining} bytes")
    found = np.frombuffer(reader.data, kind, count, reader.position)
    reader.position += count * kind.itemsize
    return found
