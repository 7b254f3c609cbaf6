"""Lattices: the likely paths of an utterance, with costs of graph and acoustics apart.

Kaldi's Lattice has a transition-id on each arc; its CompactLattice has a word on each arc, and
with the costs a string of transition-ids. Their files are OpenFst's, with weights of their own.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nnet.modelfile.fst import MAGIC, SIZES, VERSION
from nnet.modelfile.fst_properties import ACCEPTOR, EXPANDED, MUTABLE

Integers = NDArray[np.int64]
Labels = NDArray[np.int32]
Floats = NDArray[np.float32]

COMPACT_ARC = "compactlattice44"
_WEIGHT = struct.Struct("<ff")
_STRING = struct.Struct("<i")
_COMPACT_LABELS = struct.Struct("<ii")
_NEXT = struct.Struct("<i")
_COUNT = struct.Struct("<q")
LONGEST = 2**28
NO_LABELS = np.zeros(0, np.int32)


class Source(Protocol):
    """Bytes that are read in order, such as `nnet.data.streams.ByteReader`."""

    def take(self, count: int) -> bytes: ...

    def line(self) -> bytes: ...

    def error(self, found: str, *, expected: str | None = None) -> Exception: ...


@dataclass(frozen=True, eq=False)
class LatticeArcs:
    """States and arcs of a lattice; costs are in nats.

    Args:
        start: the start state; -1 in an empty lattice.
        offsets: int64 (states + 1,); the arcs that leave state s are `offsets[s]:offsets[s + 1]`.
        words: int32 (arcs,); 0 is none.
        graph_costs: of language model, pronunciation and transitions, float32 (arcs,).
        acoustic_costs: minus the log-likelihoods, float32 (arcs,).
        nextstates: int32 (arcs,).
        final_graph_costs: float32 (states,), infinite where a state is not final.
        final_acoustic_costs: likewise.
    """

    start: int
    offsets: Integers
    words: Labels
    graph_costs: Floats
    acoustic_costs: Floats
    nextstates: Labels
    final_graph_costs: Floats
    final_acoustic_costs: Floats

    @property
    def num_states(self) -> int:
        return len(self.final_graph_costs)

    @property
    def num_arcs(self) -> int:
        return len(self.words)

    @cached_property
    def sources(self) -> Integers:
        """The state that each arc leaves, int64 (arcs,)."""
        return np.repeat(np.arange(self.num_states), np.diff(self.offsets))

    def labels(self, arcs: Integers, states: Integers) -> dict[str, Any]:
        """The transition-ids of some of the arcs and states, by field."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Lattice(LatticeArcs):
    """A lattice with transition-ids.

    Args:
        transitions: int32 (arcs,); 0 on arcs that take no frame.
    """

    transitions: Labels

    def labels(self, arcs: Integers, states: Integers) -> dict[str, Any]:
        return {"transitions": self.transitions[arcs]}

    @staticmethod
    def of_arcs(start: int, finals: Floats, arcs: np.ndarray) -> Lattice:
        """From arcs in any order, of type `nnet.kernels.decoding.cpu.STEP`, and final costs."""
        arcs = arcs[np.argsort(arcs["source"], kind="stable")]
        return Lattice(
            start,
            np.searchsorted(arcs["source"], np.arange(len(finals) + 1)),
            arcs["olabel"].copy(),
            arcs["graph_cost"].copy(),
            arcs["acoustic_cost"].copy(),
            arcs["target"].copy(),
            finals,
            np.where(np.isfinite(finals), np.float32(0), np.float32(np.inf)),
            arcs["ilabel"].copy(),
        )


@dataclass(frozen=True, eq=False)
class CompactLattice(LatticeArcs):
    """A lattice of words with strings of transition-ids.

    Args:
        strings: transition-ids of each arc, int32 (frames,) each.
        final_strings: of each state.
        properties: OpenFst's bits that its file had.
    """

    strings: tuple[Labels, ...]
    final_strings: tuple[Labels, ...]
    properties: int = EXPANDED | MUTABLE | ACCEPTOR

    def labels(self, arcs: Integers, states: Integers) -> dict[str, Any]:
        strings = tuple(self.strings[arc] for arc in arcs.tolist())
        finals = tuple(self.final_strings[state] for state in states.tolist())
        return {"strings": strings, "final_strings": finals}


CompactArc = tuple[int, int, float, float, Sequence[int] | Labels, int]
"""State, word, graph cost, acoustic cost, transition-ids, next state."""
Final = tuple[float, float, Sequence[int] | Labels]
"""Graph cost, acoustic cost, transition-ids."""


def compact_lattice(
    states: int,
    arcs: Sequence[CompactArc],
    finals: Mapping[int, Final],
    start: int = 0,
    properties: int = EXPANDED | MUTABLE | ACCEPTOR,
) -> CompactLattice:
    """A compact lattice from arcs, in any order; the arcs of a state keep theirs."""
    arcs = sorted(arcs, key=lambda arc: arc[0])
    graph_costs, acoustic_costs = np.full((2, states), np.inf, np.float32)
    strings = [NO_LABELS] * states
    for state, (graph, acoustic, string) in finals.items():
        graph_costs[state], acoustic_costs[state] = graph, acoustic
        strings[state] = np.asarray(string, np.int32)
    return CompactLattice(
        start if states else -1,
        np.searchsorted([arc[0] for arc in arcs], np.arange(states + 1)),
        np.array([arc[1] for arc in arcs], np.int32),
        np.array([arc[2] for arc in arcs], np.float32),
        np.array([arc[3] for arc in arcs], np.float32),
        np.array([arc[5] for arc in arcs], np.int32),
        graph_costs,
        acoustic_costs,
        tuple(np.asarray(arc[4], np.int32) for arc in arcs),
        tuple(strings),
        properties,
    )


def read_binary_compact(source: Source) -> CompactLattice:
    """A compact lattice in OpenFst's binary form.

    Raises:
        NnetError: it is none, or it is damaged.
    """
    (magic,) = struct.unpack("<i", source.take(4))
    kind, arc_type = (_word(source) for _ in range(2)) if magic == MAGIC else ("", "")
    if (kind, arc_type) != ("vector", COMPACT_ARC):
        raise source.error(
            f"found an FST of type '{kind}' with '{arc_type}' arcs" if kind else "found no FST",
            expected=f"a compact lattice (a vector FST with {COMPACT_ARC} arcs)",
        )
    _, flags, properties, start, states, _ = SIZES.unpack(source.take(SIZES.size))
    if flags or not -1 <= start < max(states, 1) or not 0 <= states < LONGEST:
        raise source.error("found a header with wrong numbers", expected="a compact lattice")
    arcs: list[CompactArc] = []
    finals: dict[int, Final] = {}
    for state in range(states):
        final = _weight(source)
        if np.isfinite(final[0]):
            finals[state] = final
        (count,) = _COUNT.unpack(source.take(_COUNT.size))
        if not 0 <= count < LONGEST:
            raise source.error(f"found {count} arcs of a state", expected="a compact lattice")
        for _ in range(count):
            word, _ = _COMPACT_LABELS.unpack(source.take(_COMPACT_LABELS.size))
            graph, acoustic, string = _weight(source)
            (following,) = _NEXT.unpack(source.take(_NEXT.size))
            if not 0 <= following < states or word < 0:
                raise source.error(
                    f"found an arc to state {following} with word {word}",
                    expected=f"states below {states}",
                )
            arcs.append((state, word, graph, acoustic, string, following))
    return compact_lattice(states, arcs, finals, start, properties)


def _word(source: Source) -> str:
    (size,) = _STRING.unpack(source.take(_STRING.size))
    return source.take(size).decode("latin-1") if 0 < size < 100 else ""


def _weight(source: Source) -> Final:
    graph, acoustic = _WEIGHT.unpack(source.take(_WEIGHT.size))
    (size,) = _STRING.unpack(source.take(_STRING.size))
    if not 0 <= size < LONGEST:
        raise source.error(f"found {size} transition-ids", expected="a compact lattice")
    return graph, acoustic, np.frombuffer(source.take(4 * size), "<i4")


def binary_compact(lattice: CompactLattice) -> bytes:
    """A compact lattice in OpenFst's binary form; one that was read gets the same bytes."""
    parts = [struct.pack("<i", MAGIC)]
    for text in ("vector", COMPACT_ARC):
        parts.append(_STRING.pack(len(text)) + text.encode())
    parts.append(SIZES.pack(VERSION, 0, lattice.properties, lattice.start, lattice.num_states, 0))
    for state in range(lattice.num_states):
        begin, end = lattice.offsets[state : state + 2].tolist()
        parts += [
            _WEIGHT.pack(lattice.final_graph_costs[state], lattice.final_acoustic_costs[state]),
            _string(lattice.final_strings[state]),
            _COUNT.pack(end - begin),
        ]
        for arc in range(begin, end):
            word = int(lattice.words[arc])
            parts += [
                _COMPACT_LABELS.pack(word, word),
                _WEIGHT.pack(lattice.graph_costs[arc], lattice.acoustic_costs[arc]),
                _string(lattice.strings[arc]),
                _NEXT.pack(lattice.nextstates[arc]),
            ]
    return b"".join(parts)


def _string(labels: Labels) -> bytes:
    return _STRING.pack(len(labels)) + labels.astype("<i4").tobytes()


def read_text_compact(source: Source) -> CompactLattice:
    """A compact lattice as lines, up to an empty line.

    Raises:
        NnetError: a line is neither an arc nor a final state.
    """
    arcs: list[CompactArc] = []
    finals: dict[int, Final] = {}
    start = -1
    while line := source.line().strip():
        words = line.decode("latin-1").split()
        try:
            if len(words) in (3, 4):
                state, following, word = (int(text) for text in words[:3])
                arcs.append((state, word, *_parsed(words[3:]), following))
            elif len(words) in (1, 2):
                state = following = int(words[0])
                finals[state] = _parsed(words[1:])
            else:
                raise ValueError
            if min(state, following, *(arc[1] for arc in arcs[-1:])) < 0:
                raise ValueError
        except ValueError:
            raise source.error(
                f"found '{line[:60].decode('latin-1')}' in a lattice",
                expected="STATE NEXT-STATE WORD COSTS or STATE COSTS, with costs such as "
                "22.38,-81.2,2_1_1",
            ) from None
        start = state if start < 0 else start
    states = 1 + max((*finals, *(max(arc[0], arc[5]) for arc in arcs)), default=-1)
    if states > 1 + len(finals) + 2 * len(arcs):
        raise source.error(f"found the state {states - 1}", expected="states numbered from 0")
    return compact_lattice(states, arcs, finals, start)


def _parsed(words: Sequence[str]) -> Final:
    if not words:
        return 0.0, 0.0, ()
    graph, acoustic, string = words[0].split(",")
    return float(graph), float(acoustic), [int(label) for label in string.split("_") if label]


def text_compact(lattice: CompactLattice) -> bytes:
    """A compact lattice as Kaldi writes it in text form, with an empty line at the end."""
    lines = []
    order = [lattice.start, *(s for s in range(lattice.num_states) if s != lattice.start)]
    for state in order if lattice.num_states else ():
        for arc in range(*lattice.offsets[state : state + 2].tolist()):
            words = [state, lattice.nextstates[arc], lattice.words[arc]]
            cost = _text_weight(
                lattice.graph_costs[arc], lattice.acoustic_costs[arc], lattice.strings[arc]
            )
            lines.append("\t".join([*map(str, words), *cost]))
        if np.isfinite(lattice.final_graph_costs[state]):
            cost = _text_weight(
                lattice.final_graph_costs[state],
                lattice.final_acoustic_costs[state],
                lattice.final_strings[state],
            )
            lines.append("\t".join([str(state), *cost]))
    return "".join(f"{line}\n" for line in [*lines, ""]).encode()


def _text_weight(graph: np.float32, acoustic: np.float32, string: Labels) -> list[str]:
    if not graph and not acoustic and not len(string):
        return []
    return [f"{graph:.6g},{acoustic:.6g},{'_'.join(map(str, string.tolist()))}"]
