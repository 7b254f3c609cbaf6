"""Training examples (nnet3's NnetExample, "egs"): inputs and targets with their indexes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.limits import LARGEST_SEQUENCE, LARGEST_TIME
from nnet.modelfile.general_matrix import (
    CompressedMatrix,
    FullMatrix,
    GeneralMatrix,
    append_rows,
    read_general_matrix,
)
from nnet.modelfile.tokens import END, BinaryReader, Reader
from nnet.modelfile.writing import Writer

Indexes = NDArray[np.int32]
ESCAPE = 127  # announces an index in full; other bytes are differences of t
NEAR = 125  # differences of t below this are written in one byte
MOST_INPUTS = 1_000_000


@dataclass(frozen=True, eq=False)
class NnetIo:
    """One input or output of an example.

    Args:
        name: of the network's node.
        indexes: for each row of the matrix (n, t, x), as int32 (rows, 3).
        features: the rows.
    """

    name: str
    indexes: Indexes
    features: GeneralMatrix

    @property
    def structure(self) -> tuple[object, ...]:
        """Equal for examples that can be merged."""
        return self.name, self.features.shape, self.indexes.tobytes()

    @property
    def sequences(self) -> int:
        """The number of sequences (values of n)."""
        return int(self.indexes[:, 0].max()) + 1


@dataclass(frozen=True, eq=False)
class Example:
    """Inputs and outputs, by which a network is trained."""

    io: tuple[NnetIo, ...]

    structure: tuple[object, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "structure", tuple(io.structure for io in self.io))

    @property
    def size(self) -> int:
        """The rows of its largest input or output, by which merging rules choose."""
        return max(len(io.indexes) for io in self.io)

    @property
    def is_merged(self) -> bool:
        """Whether it has several sequences."""
        return any(io.sequences > 1 for io in self.io)

    def merge(self, others: Sequence[Example]) -> Example:
        """One example with the sequences of this one and of others (see `merge_examples`)."""
        return merge_examples([self, *others])

    def shifted(self, frames: int, exclude: Sequence[str] = ("ivector",)) -> Example:
        """The same with all times but those of some inputs moved by some frames."""
        move = np.array((0, frames, 0), np.int32)
        return Example(
            tuple(
                io if io.name in exclude else replace(io, indexes=io.indexes + move)
                for io in self.io
            )
        )

    def compressed(self) -> Example:
        """The same with full matrices compressed."""
        return Example(tuple(_compressed(io) for io in self.io))


def _compressed(io: NnetIo) -> NnetIo:
    if not isinstance(io.features, FullMatrix):
        return io
    return replace(io, features=CompressedMatrix.of(io.features.values))


def frame_indexes(start: int, count: int, step: int = 1) -> Indexes:
    """Indexes of one sequence at times `start`, `start + step`, ..."""
    indexes = np.zeros((count, 3), np.int32)
    indexes[:, 1] = start + step * np.arange(count)
    return indexes


def read_example(reader: Reader) -> Example:
    """The example that begins here.

    Raises:
        NnetError: it is damaged.
    """
    if reader.peek_token() == "<Nnet3ChainEg>":
        reader.fail("an example with targets of frames", "one for LF-MMI, which needs --den-fst")
    reader.expect("<Nnet3Eg>")
    reader.expect("<NumIo>")
    count = reader.integer()
    if not 0 < count <= MOST_INPUTS:
        reader.fail("the number of inputs and outputs", str(count))
    io = tuple(read_io(reader) for _ in range(count))
    reader.expect("</Nnet3Eg>")
    return Example(io)


def read_io(reader: Reader) -> NnetIo:
    """One input or output."""
    reader.expect("<NnetIo>")
    name = reader.token("the name of an input or output")
    start = reader.position
    indexes = read_indexes(reader)
    _check_indexes(reader, indexes, start)
    features = read_general_matrix(reader)
    if features.shape[0] != len(indexes):
        reader.fail(f"a matrix of {len(indexes)} rows for '{name}'", f"{features.shape[0]} rows")
    reader.expect("</NnetIo>")
    return NnetIo(name, indexes, features)


def _check_indexes(reader: Reader, indexes: Indexes, start: int) -> None:
    """Fails unless there are rows, of sequences from 0 on and at times that recordings have."""
    if not len(indexes):
        reader.fail("1 index or more", "none", at=start)
    sequences, others = indexes[:, 0], np.abs(indexes[:, 1:].astype(np.int64))
    if not 0 <= sequences.min() <= sequences.max() < LARGEST_SEQUENCE:
        found = f"n from {sequences.min()} to {sequences.max()}"
        reader.fail(f"indexes with n from 0 to {LARGEST_SEQUENCE - 1}", found, at=start)
    if others.max() > LARGEST_TIME:
        reader.fail(f"indexes with t and x within {LARGEST_TIME}", str(others.max()), at=start)


def write_example(writer: Writer, example: Example) -> None:
    """Writes an example; one that was read gets the same bytes."""
    writer.token("<Nnet3Eg>")
    writer.token("<NumIo>")
    writer.integer(len(example.io))
    for io in example.io:
        write_io(writer, io)
    writer.token("</Nnet3Eg>")


def write_io(writer: Writer, io: NnetIo) -> None:
    writer.token("<NnetIo>")
    writer.token(io.name)
    write_indexes(writer, io.indexes)
    io.features.write(writer)
    writer.token("</NnetIo>")


def read_indexes(reader: Reader) -> Indexes:
    """A vector of indexes (n, t, x), int32 (count, 3)."""
    reader.expect("<I1V>")
    count = reader.integer()
    if not count >= 0:
        reader.fail("the number of indexes", str(count))
    if isinstance(reader, BinaryReader):
        return _read_binary_indexes(reader, count)
    rows = []
    for _ in range(count):
        reader.expect("<I1>")
        rows.append(reader.integer_list(3))
    return np.array(rows, np.int32).reshape(count, 3)


def _read_binary_indexes(reader: BinaryReader, count: int) -> Indexes:
    if count > reader.remaining and count > len(reader.ahead(count)):
        reader.fail(f"{count} indexes", END)
    indexes = np.zeros((count, 3), np.int32)
    last = np.zeros(3, np.int64)
    done = 0
    while done < count:
        codes = np.frombuffer(reader.ahead(count - done), np.int8)
        escapes = np.flatnonzero(codes == ESCAPE)
        near = int(escapes[0]) if escapes.size else len(codes)
        if near:
            steps = codes[:near].astype(np.int64)
            if (np.abs(steps) >= NEAR).any():
                reader.fail("an index")
            part = indexes[done : done + near]
            part[:] = last
            part[:, 1] += steps.cumsum().astype(np.int32)
            last = part[-1].astype(np.int64)
            reader.take(near, "indexes")
            done += near
        else:
            reader.take(1, "an index")
            indexes[done] = reader.integer_list(3)
            last = indexes[done].astype(np.int64)
            done += 1
    return indexes


def write_indexes(writer: Writer, indexes: Indexes) -> None:
    writer.token("<I1V>")
    writer.integer(len(indexes))
    if not writer.binary:
        for row in indexes.tolist():
            writer.token("<I1>")
            for number in row:
                writer.integer(number)
        return
    before = np.vstack((np.zeros((1, 3), np.int64), indexes[:-1].astype(np.int64)))
    change = indexes - before
    near = (change[:, 0] == 0) & (change[:, 2] == 0) & (np.abs(change[:, 1]) < NEAR)
    codes = change[:, 1].astype(np.int8).tobytes()
    start = 0
    for far in np.flatnonzero(~near).tolist():
        writer.chunks.append(codes[start:far] + bytes((ESCAPE,)))
        for number in indexes[far].tolist():
            writer.integer(number)
        start = far + 1
    writer.chunks.append(codes[start:])


def merge_examples(examples: Sequence[Example]) -> Example:
    """One example with the sequences of all of them (nnet3's MergeExamples).

    Inputs and outputs are in the order of their names; the sequences of example k get the numbers
    n after those of example k - 1.

    Raises:
        NnetError: the examples differ in their inputs and outputs or in dimensions.
    """
    stride = examples[0].io[0].sequences
    names = sorted({io.name for example in examples for io in example.io})
    merged = []
    for name in names:
        parts, indexes = [], []
        for number, example in enumerate(examples):
            for io in example.io:
                if io.name == name:
                    parts.append(io.features)
                    indexes.append(io.indexes + np.array((number * stride, 0, 0), np.int32))
        if len(parts) != len(examples):
            raise NnetError(f"only {len(parts)} of {len(examples)} examples to merge have '{name}'")
        merged.append(NnetIo(name, np.concatenate(indexes), append_rows(parts)))
    return Example(tuple(merged))
