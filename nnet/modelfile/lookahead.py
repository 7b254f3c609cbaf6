"""Graphs that say which words can still be read: OpenFst's type `olabel_lookahead`.

Beside a const FST they hold for each state the labels of the words that can come first on a path
from it, as intervals (Allauzen, Riley and Schalkwyk, "A generalized composition algorithm for
weighted finite-state transducers", 2009). Words were numbered so that the intervals are few.
"""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.modelfile.fst import read_header, read_header_symbols
from nnet.modelfile.graph_files import DecodingGraph, mapped_file, read_const, view
from nnet.modelfile.tokens import BinaryReader

MAGIC = 446681434
LABEL = np.dtype("<i4")
WORDS_OF_A_SET = 3  # its size, of 64 bits, and how many labels it has
RELABELLED = np.dtype([("label", "<i4"), ("index", "<i4")])


@dataclass(frozen=True, eq=False)
class LookaheadGraph:
    """A graph with the words that can be read from each state.

    Args:
        graph: from transition-ids to words.
        firsts: int64 (states + 1,); the intervals of state s are `firsts[s]:firsts[s + 1]`.
        intervals: int32 (intervals, 2): words from the first up to the second, not with it.
        final_label: stands among the words for the end of a path.
    """

    graph: DecodingGraph
    firsts: NDArray[np.int64]
    intervals: NDArray[np.int32]
    final_label: int

    def __post_init__(self) -> None:
        rises = (self.intervals[:, 0] < self.intervals[:, 1]).all()
        if not rises or self.intervals.min(initial=0) < 0:
            raise NnetError(
                f"{self.graph.name}: an interval of words is empty or negative; the file is damaged"
            )

    def words(self, state: int) -> list[tuple[int, int]]:
        """The intervals of a state."""
        found = self.intervals[self.firsts[state] : self.firsts[state + 1]].tolist()
        return [(begin, end) for begin, end in found]


def read_lookahead_graph(path: str | os.PathLike[str]) -> LookaheadGraph:
    """The graph in a file such as Vosk's `HCLr.fst`; its arcs are mapped into memory.

    Raises:
        NnetError: there is no such file, or it is no FST of type olabel_lookahead with intervals.
    """
    reader = mapped_file(path)
    header = read_header(reader)
    if header.kind != "olabel_lookahead":
        reader.fail("an FST of type olabel_lookahead", header.kind, at=header.place)
    read_header_symbols(reader, header)
    start = reader.position
    if view(reader, LABEL, 1, "the mark of an addition to an FST")[0] != MAGIC:
        reader.fail("the mark of an addition to an FST", at=start)
    inner = read_header(reader)
    if inner.kind != "const":
        reader.fail("a const FST within it", inner.kind, at=inner.place)
    graph = read_const(reader, inner)
    start = reader.position
    has_any = _flag(reader)
    if not has_any or _flag(reader) or not _flag(reader):
        reader.fail("the words that states can reach, on the output side alone", at=start)
    return _read_reachable(reader, graph)


def _flag(reader: BinaryReader) -> bool:
    start = reader.position
    raw = reader.take(1, "a truth value")
    if raw not in (b"\0", b"\1"):
        reader.fail("a truth value (0 or 1)", at=start)
    return raw == b"\1"


def _read_reachable(reader: BinaryReader, graph: DecodingGraph) -> LookaheadGraph:
    start = reader.position
    if _flag(reader):
        reader.fail("words reached on the output side", at=start)
    if _flag(reader):
        count = int(view(reader, np.dtype("<i8"), 1, "the number of labels")[0])
        view(reader, RELABELLED, count, "the new numbers of labels")
    final_label = int(view(reader, LABEL, 1, "the label of the end")[0])
    start = reader.position
    count = int(view(reader, np.dtype("<i8"), 1, "the number of sets of words")[0])
    if count != len(graph.states):
        reader.fail(f"{len(graph.states)} sets of words", str(count), at=start)
    integers = view(reader, LABEL, reader.remaining // LABEL.itemsize, "sets of words")
    places, sizes = _places(reader, integers, count)
    firsts = np.concatenate(([0], np.cumsum(sizes)))
    inside = np.repeat(places - 2 * firsts[:-1], 2 * sizes) + np.arange(2 * firsts[-1])
    return LookaheadGraph(graph, firsts, integers[inside].reshape(-1, 2), final_label)


def _places(
    reader: BinaryReader, integers: NDArray[np.int32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the intervals of each set begin, and how many there are, (sets,) each."""
    numbers = np.require(integers, requirements="A").data
    places = array("q", bytes(8 * count))
    place = 0
    try:
        for number in range(count):
            places[number] = place
            place += WORDS_OF_A_SET + 2 * numbers[place]
    except (IndexError, OverflowError):
        reader.fail("sets of words", "fewer; the file was cut short")
    begins = np.frombuffer(places, np.int64)
    sizes = integers[begins].astype(np.int64) if count else begins
    if place > len(numbers) or sizes.min(initial=0) < 0:
        reader.fail("sets of words", "fewer; the file was cut short")
    return begins + 2, sizes
