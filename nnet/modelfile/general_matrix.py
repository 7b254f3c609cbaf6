"""Matrices in examples (nnet3's GeneralMatrix): full, compressed or sparse."""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.limits import LARGEST_DIM, above, check_array
from nnet.modelfile.compressed import compress, compressed_size, uncompress
from nnet.modelfile.tokens import BinaryReader, Reader, shortened
from nnet.modelfile.writing import Writer

Floats = NDArray[np.float32]
HEADER = struct.Struct("<ffii")
ROW = struct.Struct("<3sbibi")
SIZE = re.compile("[0-9]{1,9}")
PAIR = np.dtype([("i", "i1"), ("id", "<i4"), ("w", "i1"), ("weight", "<f4")])


@dataclass(frozen=True, eq=False)
class FullMatrix:
    """Float32 elements (rows, dim)."""

    values: Floats

    @property
    def shape(self) -> tuple[int, int]:
        rows, dim = self.values.shape
        return rows, dim

    def dense(self) -> Floats:
        """The matrix as float32 (rows, dim)."""
        return self.values

    def write(self, writer: Writer) -> None:
        writer.matrix(self.values)


@dataclass(frozen=True, eq=False)
class CompressedMatrix:
    """A compressed matrix as its file holds it: `content` is header and elements."""

    token: str
    content: bytes

    @staticmethod
    def of(values: Floats, token: str | None = None) -> CompressedMatrix:
        """Compresses; without a token, in the form that Kaldi would choose."""
        return CompressedMatrix(*compress(values, token))

    @property
    def shape(self) -> tuple[int, int]:
        _, _, rows, dim = HEADER.unpack_from(self.content)
        return rows, dim

    def dense(self) -> Floats:
        """The matrix as float32 (rows, dim)."""
        minimum, spread, rows, dim = HEADER.unpack_from(self.content)
        return uncompress(self.token, minimum, spread, rows, dim, self.content[HEADER.size :])

    def write(self, writer: Writer) -> None:
        if writer.binary:
            writer.token(self.token)
            writer.chunks.append(self.content)
        else:
            writer.matrix(self.dense())


@dataclass(frozen=True, eq=False)
class SparseMatrix:
    """Rows of pairs (column, value), one after the other.

    Row r has the pairs `offsets[r]` to `offsets[r + 1]` of `ids` and `weights`.
    """

    dim: int
    offsets: NDArray[np.int64]
    ids: NDArray[np.int32]
    weights: Floats

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.offsets) - 1, self.dim

    def dense(self) -> Floats:
        """The matrix as float32 (rows, dim).

        Raises:
            NnetError: it would take more memory than any minibatch.
        """
        rows = len(self.offsets) - 1
        check_array(rows, self.dim)
        values = np.zeros((rows, self.dim), np.float32)
        row = np.repeat(np.arange(rows), np.diff(self.offsets))
        np.add.at(values, (row, self.ids), self.weights)
        return values

    def write(self, writer: Writer) -> None:
        rows = len(self.offsets) - 1
        if writer.binary:
            writer.token("SM")
            writer.integer(rows)
            writer.chunks.extend(self._binary_rows())
            return
        parts = [f"rows={rows} "]
        bounds = self.offsets.tolist()
        for start, end in itertools.pairwise(bounds):
            pairs = zip(self.ids[start:end].tolist(), self.weights[start:end].tolist(), strict=True)
            words = "".join(f"{i} {w:.7g} " for i, w in pairs)
            parts.append(f"dim={self.dim} [ {words}] ")
        writer.chunks.append("".join((*parts, "\n")).encode())

    def _binary_rows(self) -> list[bytes]:
        records = np.empty(len(self.ids), PAIR)
        records["i"], records["w"] = 4, 4
        records["id"], records["weight"] = self.ids, self.weights
        pairs, size = records.tobytes(), PAIR.itemsize
        bounds = self.offsets.tolist()
        parts = []
        for start, end in itertools.pairwise(bounds):
            parts.append(ROW.pack(b"SV ", 4, self.dim, 4, end - start))
            parts.append(pairs[start * size : end * size])
        return parts


GeneralMatrix = FullMatrix | CompressedMatrix | SparseMatrix


def read_general_matrix(reader: Reader) -> GeneralMatrix:
    """The matrix that begins here, in the form that it has in the stream."""
    if not isinstance(reader, BinaryReader):
        token = reader.peek_token() or ""
        return _read_sparse_text(reader) if "=" in token else FullMatrix(reader.matrix())
    token = reader.peek_token() or ""
    if token == "SM":
        return _read_sparse(reader)
    if token not in ("CM", "CM2", "CM3"):
        return FullMatrix(reader.matrix())
    reader.expect(token)
    header = reader.take(HEADER.size, "a compressed matrix")
    _, _, rows, dim = HEADER.unpack(header)
    if rows < 0 or dim < 0:
        reader.fail("dimensions of a compressed matrix", f"{rows} x {dim}")
    if dim == 0:
        return CompressedMatrix(token, header)
    size = compressed_size(token, rows, dim)
    return CompressedMatrix(token, header + reader.take(size, "a compressed matrix"))


def _read_sparse(reader: BinaryReader) -> SparseMatrix:
    reader.expect("SM")
    rows = reader.integer()
    if rows < 0:
        reader.fail("the number of rows of a sparse matrix", str(rows))
    equal = _read_equal_rows(reader, rows)
    if equal is not None:
        return equal
    dim, counts, pairs = 0, [], []
    for _ in range(rows):
        dim, count = _row_header(reader)
        counts.append(count)
        pairs.append(reader.take(count * PAIR.itemsize, "a row of a sparse matrix"))
    records = np.frombuffer(b"".join(pairs), PAIR)
    return _sparse(reader, dim, np.array(counts, np.int64), records)


def _row_header(reader: BinaryReader) -> tuple[int, int]:
    """Dimension and number of pairs of the row that begins here."""
    token, four, dim, again, count = ROW.unpack(reader.take(ROW.size, "a row of a sparse matrix"))
    if token != b"SV " or four != 4 or again != 4 or not count >= 0:
        reader.fail("a row of a sparse matrix (SV)", at=reader.position - ROW.size)
    return dim, count


def _read_equal_rows(reader: BinaryReader, rows: int) -> SparseMatrix | None:
    """All rows at once if they have as many pairs as the first, the usual case."""
    first = reader.ahead(ROW.size)
    if rows == 0 or len(first) < ROW.size:
        return None
    dim, count = ROW.unpack(first)[2], ROW.unpack(first)[4]
    if not 0 <= count <= 1 << 20:
        return None
    row = np.dtype([("head", f"V{ROW.size}"), ("pairs", PAIR, (count,))])
    size = rows * row.itemsize
    block = reader.ahead(size)
    if len(block) < size:
        return None
    records = np.frombuffer(block, row)
    if (records["head"] != np.frombuffer(first, f"V{ROW.size}")[0]).any():
        return None
    reader.take(size, "a sparse matrix")
    counts = np.full(rows, count, np.int64)
    return _sparse(reader, dim, counts, np.ascontiguousarray(records["pairs"]).reshape(-1))


def _sparse(
    reader: Reader, dim: int, counts: NDArray[np.int64], records: NDArray[np.void]
) -> SparseMatrix:
    if not 0 <= dim <= LARGEST_DIM:
        reader.fail("the columns of a sparse matrix", above("dim", dim, LARGEST_DIM))
    if (records["i"] != 4).any() or (records["w"] != 4).any():
        reader.fail("pairs of an int32 and a float32 in a sparse matrix")
    ids = records["id"].copy()
    if ids.size and not (ids.min() >= 0 and ids.max() < dim):
        reader.fail(f"columns below {dim} in a sparse matrix", f"{ids.min()} to {ids.max()}")
    offsets = np.concatenate((np.zeros(1, np.int64), counts.cumsum()))
    return SparseMatrix(dim, offsets, ids, records["weight"].copy())


def _read_sparse_text(reader: Reader) -> SparseMatrix:
    rows = _named_integer(reader, "rows")
    dim, counts = 0, []
    ids: list[int] = []
    weights: list[float] = []
    for _ in range(rows):
        dim = _named_integer(reader, "dim")
        reader.expect("[")
        before = len(ids)
        while reader.peek_token() != "]":
            ids.append(reader.integer())
            weights.append(reader.real())
        reader.expect("]")
        counts.append(len(ids) - before)
    records = np.empty(len(ids), PAIR)
    records["i"], records["w"] = 4, 4
    records["id"], records["weight"] = ids, weights
    return _sparse(reader, dim, np.array(counts, np.int64), records)


def _named_integer(reader: Reader, name: str) -> int:
    word = reader.token(f"{name}=...")
    value = word.removeprefix(f"{name}=")
    if not word.startswith(f"{name}=") or not SIZE.fullmatch(value):
        reader.fail(f"{name}=...", shortened(word.encode("latin-1")))
    return int(value)


def append_rows(matrices: Sequence[GeneralMatrix]) -> GeneralMatrix:
    """The rows of all matrices below each other: sparse if all are, else full.

    Raises:
        NnetError: they differ in their number of columns.
    """
    dims = {m.shape[1] for m in matrices if m.shape[0]}
    if len(dims) > 1:
        raise NnetError(f"examples to be merged differ in dimension: {sorted(dims)}")
    sparse = [m for m in matrices if isinstance(m, SparseMatrix)]
    if len(sparse) < len(matrices):
        return FullMatrix(np.concatenate([m.dense() for m in matrices if m.shape[0]]))
    counts = np.concatenate([np.diff(m.offsets) for m in sparse])
    offsets = np.concatenate((np.zeros(1, np.int64), counts.cumsum()))
    ids = np.concatenate([m.ids for m in sparse])
    weights = np.concatenate([m.weights for m in sparse])
    return SparseMatrix(max(dims, default=0), offsets, ids, weights)
