"""Weighted finite-state acceptors and transducers as arrays, and OpenFst's files of them."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.modelfile.fst_properties import EXPANDED, MUTABLE, properties
from nnet.modelfile.symbols import SymbolTable, read_both_symbols, read_openfst_symbols
from nnet.modelfile.tokens import BinaryReader, Reader, as_float32, shortened
from nnet.modelfile.writing import BinaryWriter, Writer, save_bytes

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]

MAGIC = 2125659606
SIZES = struct.Struct("<iiQqqq")  # version, flags, properties, start, states, arcs
ALIGNED = 4
INPUT_SYMBOLS, OUTPUT_SYMBOLS = 1, 2
SYMBOLS = INPUT_SYMBOLS | OUTPUT_SYMBOLS
VERSION = 2
ARC = np.dtype([("ilabel", "<i4"), ("olabel", "<i4"), ("weight", "<f4"), ("nextstate", "<i4")])
COMPACT_ARC = np.dtype([("label", "<i4"), ("weight", "<f4"), ("nextstate", "<i4")])
LEAST_COST = -80.0  # nats; probabilities beyond it do not fit in float32
FINAL = -1  # label and next state of what stands for a final weight among compact arcs


@dataclass(frozen=True, eq=False)
class Fst:
    """A finite-state transducer over the tropical semiring, whose weights are costs in nats.

    Args:
        start: the start state; -1 in an empty FST.
        finals: final costs, float32 (states,); infinite where a state is not final.
        offsets: int64 (states + 1,); the arcs that leave state s are `offsets[s]:offsets[s + 1]`.
        ilabels: input labels, int64 (arcs,); 0 is epsilon.
        olabels: output labels.
        weights: costs, float32 (arcs,).
        nextstates: int64 (arcs,).
    """

    start: int
    finals: Floats
    offsets: Integers
    ilabels: Integers
    olabels: Integers
    weights: Floats
    nextstates: Integers

    @staticmethod
    def of(
        states: int,
        arcs: Sequence[tuple[int, int, float, int]],
        finals: dict[int, float],
        start: int = 0,
    ) -> Fst:
        """An acceptor from arcs (state, label, cost, next state), in the order of their states."""
        table = np.array(arcs, np.float64).reshape(-1, 4)
        sources = table[:, 0].astype(np.int64)
        order = np.argsort(sources, kind="stable")
        costs = np.full(states, np.inf, np.float32)
        costs[list(finals)] = as_float32(np.array(list(finals.values()), np.float64))
        labels = table[order, 1].astype(np.int64)
        return Fst(
            start,
            costs,
            np.searchsorted(sources[order], np.arange(states + 1)),
            labels,
            labels,
            as_float32(table[order, 2]),
            table[order, 3].astype(np.int64),
        )

    @property
    def num_states(self) -> int:
        return len(self.finals)

    @property
    def num_arcs(self) -> int:
        return len(self.ilabels)

    @cached_property
    def sources(self) -> Integers:
        """The state that each arc leaves, int64 (arcs,)."""
        return np.repeat(np.arange(self.num_states), np.diff(self.offsets))

    @property
    def is_acceptor(self) -> bool:
        return self.olabels is self.ilabels or bool((self.ilabels == self.olabels).all())


def read_fst_file(path: str | os.PathLike[str]) -> Fst:
    """Reads an FST from a file of OpenFst, such as `den.fst`.

    Raises:
        NnetError: there is no such file, or it holds no FST with arcs of type `standard`.
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise NnetError(f"cannot read '{os.fspath(path)}': {reason}") from None
    fst = read_openfst(BinaryReader(content, os.fspath(path)))
    least = min(fst.weights.min(initial=0.0), fst.finals.min(initial=0.0))
    if least < LEAST_COST:
        raise NnetError(
            f"{os.fspath(path)}: found the cost {least:g}; expected: costs of {LEAST_COST:g} or "
            "more, minus the logarithms of probabilities"
        )
    return fst


def write_fst_file(fst: Fst, path: str | os.PathLike[str]) -> None:
    """Writes an FST to a file as OpenFst's `vector` type."""
    save_bytes(vector_bytes(fst), path)


@dataclass(frozen=True)
class Header:
    """What stands in front of an FST in OpenFst's binary form.

    Args:
        kind: how the FST is stored, such as `vector`.
        arc_type: such as `standard`.
        version: of the form.
        flags: whether symbol tables follow, and whether arrays are aligned.
        properties: OpenFst's property bits.
        start: the start state, -1 in an empty FST.
        states: how many.
        arcs: how many, where `kind` says so.
        place: where the header begins.
    """

    kind: str
    arc_type: str
    version: int
    flags: int
    properties: int
    start: int
    states: int
    arcs: int
    place: int


def read_header(reader: BinaryReader) -> Header:
    """The header of an FST; symbol tables that follow it are left in the stream.

    Raises:
        NnetError: it is none, or its numbers cannot be.
    """
    place = reader.position
    (magic,) = struct.unpack("<i", reader.take(4, "the mark of an FST"))
    if magic != MAGIC:
        reader.fail("an FST in OpenFst's binary form", at=place)
    kind, arc_type = _string(reader), _string(reader)
    version, flags, bits, first, states, arcs = SIZES.unpack(
        reader.take(SIZES.size, "an FST's header")
    )
    if not -1 <= first < states:
        reader.fail("a start state and a number of states", f"{first} and {states}", at=place)
    return Header(kind, arc_type, version, flags, bits, first, states, arcs, place)


def read_openfst(reader: BinaryReader) -> Fst:
    """The FST in OpenFst's binary form (vector or compact acceptor) that begins here.

    Symbol tables in it are left out.

    Raises:
        NnetError: it is none, or it is damaged.
    """
    header = read_header(reader)
    if header.kind not in _READERS or header.arc_type != "standard":
        reader.fail("an FST of type vector or compact_acceptor with standard arcs",
                    f"{header.kind} with {header.arc_type} arcs", at=header.place)  # fmt: skip
    if header.flags & ALIGNED:
        reader.fail("an FST that is not aligned", at=header.place)
    read_header_symbols(reader, header)
    states = header.states
    fst = _READERS[header.kind](reader, header.start, states, header.arcs)
    if fst.num_arcs and not (fst.nextstates.min() >= 0 and fst.nextstates.max() < states):
        reader.fail(f"arcs to states below {states}", at=header.place)
    _check(reader, fst, header.place)
    return fst


def read_header_symbols(reader: BinaryReader, header: Header) -> SymbolTable | None:
    """The symbol table that follows a header (of two, that of the input); None without one."""
    if header.flags & INPUT_SYMBOLS and header.flags & OUTPUT_SYMBOLS:
        return read_both_symbols(reader)
    return read_openfst_symbols(reader) if header.flags & SYMBOLS else None


def _check(reader: Reader, fst: Fst, start: int) -> None:
    """Fails unless labels are not negative and costs are numbers or, for never, infinity."""
    for costs in (fst.weights, fst.finals):
        wrong = costs[np.isnan(costs) | (costs == -np.inf)]
        if wrong.size:
            reader.fail("costs that are numbers", str(wrong[0]), at=start)
    labels = (fst.ilabels.min(initial=0), fst.olabels.min(initial=0))
    if min(labels) < 0:
        reader.fail("labels of 0 or more", str(min(labels)), at=start)


def _string(reader: BinaryReader) -> str:
    (size,) = struct.unpack("<i", reader.take(4, "the length of an FST's type"))
    if not 0 < size <= 100:
        reader.fail("the length of an FST's type", str(size), at=reader.position - 4)
    return reader.take(size, "an FST's type").decode("latin-1")


def _read_vector(reader: BinaryReader, start: int, states: int, arcs: int) -> Fst:
    finals, counts, parts = [], [0], []
    for _ in range(states):
        final, count = struct.unpack("<fq", reader.take(12, "a state"))
        if count < 0:
            reader.fail("a number of arcs", str(count), at=reader.position - 8)
        finals.append(final)
        counts.append(count)
        parts.append(reader.take(ARC.itemsize * count, "the arcs of a state"))
    table = np.frombuffer(b"".join(parts), ARC)
    return Fst(
        start,
        np.array(finals, np.float32),
        np.cumsum(counts),
        table["ilabel"].astype(np.int64),
        table["olabel"].astype(np.int64),
        table["weight"].copy(),
        table["nextstate"].astype(np.int64),
    )


def _read_compact_acceptor(reader: BinaryReader, start: int, states: int, arcs: int) -> Fst:
    begins = np.frombuffer(reader.take(4 * (states + 1), "places of arcs"), "<u4").astype(np.int64)
    if begins[0] != 0 or (np.diff(begins) < 0).any():
        reader.fail("places of arcs that rise from 0")
    raw = reader.take(COMPACT_ARC.itemsize * int(begins[-1]), "compact arcs")
    table = np.frombuffer(raw, COMPACT_ARC)
    is_final = table["label"] == FINAL
    states_of = np.repeat(np.arange(states), np.diff(begins))
    finals = np.full(states, np.inf, np.float32)
    finals[states_of[is_final]] = table["weight"][is_final]
    kept = table[~is_final]
    if len(kept) != arcs:
        reader.fail(f"{arcs} arcs", str(len(kept)))
    labels = kept["label"].astype(np.int64)
    return Fst(
        start,
        finals,
        begins - np.concatenate(([0], np.cumsum(is_final)))[begins],
        labels,
        labels,
        kept["weight"].copy(),
        kept["nextstate"].astype(np.int64),
    )


_READERS = {"vector": _read_vector, "compact_acceptor": _read_compact_acceptor}


def vector_bytes(fst: Fst) -> bytes:
    """The FST as OpenFst's `vector` type, from which kaldifst and OpenFst's programs read it."""
    table = np.empty(fst.num_arcs, ARC)
    table["ilabel"], table["olabel"] = fst.ilabels, fst.olabels
    table["weight"], table["nextstate"] = fst.weights, fst.nextstates
    chunks = [header_bytes("vector", fst, EXPANDED | MUTABLE)]
    for state, final in enumerate(fst.finals.tolist()):
        begin, end = fst.offsets[state : state + 2].tolist()
        chunks.append(struct.pack("<fq", final, end - begin))
        chunks.append(table[begin:end].tobytes())
    return b"".join(chunks)


def compact_acceptor_bytes(fst: Fst) -> bytes:
    """The acceptor as OpenFst's `compact_acceptor` type, as Kaldi's examples hold it."""
    is_final = np.isfinite(fst.finals)
    before = np.concatenate(([0], np.cumsum(is_final)))  # final states before each state
    begins = fst.offsets + before
    table = np.empty(int(begins[-1]), COMPACT_ARC)
    places = np.arange(fst.num_arcs) + before[1:][fst.sources]
    table["label"][places], table["weight"][places] = fst.ilabels, fst.weights
    table["nextstate"][places] = fst.nextstates
    final_places = begins[:-1][is_final]
    table["label"][final_places] = table["nextstate"][final_places] = FINAL
    table["weight"][final_places] = fst.finals[is_final]
    return b"".join(
        (
            header_bytes("compact_acceptor", fst, EXPANDED),
            begins.astype("<u4").tobytes(),
            table.tobytes(),
        )
    )


def header_bytes(kind: str, fst: Fst, static: int) -> bytes:
    """The header of an FST with standard arcs; `static` are the bits of its kind."""
    chunks = [struct.pack("<i", MAGIC)]
    for text in (kind, "standard"):
        chunks.append(struct.pack("<i", len(text)) + text.encode())
    bits = static | properties(
        fst.start, fst.finals, fst.offsets, fst.ilabels, fst.olabels, fst.weights, fst.nextstates
    )
    chunks.append(SIZES.pack(VERSION, 0, bits, fst.start, fst.num_states, fst.num_arcs))
    return b"".join(chunks)


def read_acceptor(reader: Reader) -> Fst:
    """An acceptor in a token stream, compact in its binary form and lines in its text form."""
    if isinstance(reader, BinaryReader):
        fst = read_openfst(reader)
        if fst.start < 0:
            reader.fail("an acceptor with a start state", "an empty one")
        return fst
    return _read_text(reader)


def write_acceptor(writer: Writer, fst: Fst) -> None:
    """Writes an acceptor into a token stream; one that was read gets the same bytes."""
    if isinstance(writer, BinaryWriter):
        writer.chunks.append(compact_acceptor_bytes(fst))
        return
    writer.line()
    lines = fst.offsets.tolist()
    for state in _text_order(fst):
        for arc in range(lines[state], lines[state + 1]):
            words = [state, fst.nextstates[arc], fst.ilabels[arc], fst.olabels[arc]]
            writer.line("\t".join([*map(str, words), *_cost(fst.weights[arc])]))
        if np.isfinite(fst.finals[state]):
            writer.line("\t".join([str(state), *_cost(fst.finals[state])]))
    writer.line()


def _text_order(fst: Fst) -> list[int]:
    """OpenFst writes the start state first, as its text form names it by that."""
    return [fst.start, *(state for state in range(fst.num_states) if state != fst.start)]


def _cost(cost: np.float32) -> list[str]:
    return [f"{cost:.7g}"] if cost else []


def _read_text(reader: Reader) -> Fst:
    while not (line := reader.line().strip()):
        pass
    arcs: list[tuple[int, int, float, int]] = []
    finals: dict[int, float] = {}
    start: int | None = None
    while line:
        words = line.split()
        try:
            numbers = [_number(w) for w in words[:4]] if len(words) > 3 else [_number(words[0])]
            cost = float(words[-1]) if len(words) in (2, 5) else 0.0
        except ValueError:
            reader.fail("an arc or a final state", shortened(line.encode()))
        if len(words) not in (1, 2, 4, 5) or (len(words) > 3 and numbers[2] != numbers[3]):
            reader.fail("an arc of an acceptor or a final state", shortened(line.encode()))
        start = numbers[0] if start is None else start
        if len(words) > 3:
            arcs.append((numbers[0], numbers[2], cost, numbers[1]))
        else:
            finals[numbers[0]] = cost
        line = reader.line().strip()
    states = 1 + max((*finals, *(max(arc[0], arc[3]) for arc in arcs)))
    if states > 1 + len(finals) + 2 * len(arcs):
        reader.fail("states numbered from 0", f"{states} states")
    fst = Fst.of(states, arcs, finals, start or 0)
    _check(reader, fst, reader.position)
    return fst


def _number(word: str) -> int:
    """A state or label."""
    if not word.isascii() or not word.isdigit() or len(word) > 9:
        raise ValueError
    return int(word)
