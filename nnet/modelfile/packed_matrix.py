"""Symmetric matrices as Kaldi stores them: the lower triangle, row by row (SpMatrix)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nnet.modelfile.tokens import BinaryReader, Reader
from nnet.modelfile.writing import Writer

Doubles = NDArray[np.float64]
LARGEST = 1 << 15
"""Rows of the largest matrix that is read; Kaldi's would overflow beyond it."""


def read_packed(reader: Reader) -> Doubles:
    """The lower triangle that begins here, (dim (dim + 1) / 2,)."""
    if not isinstance(reader, BinaryReader):
        return _read_text(reader)
    token = reader.expect("FP", "DP")
    start = reader.position
    dim = reader.integer()
    if not 0 <= dim <= LARGEST:
        reader.fail("the rows of a symmetric matrix", str(dim), at=start)
    width = 4 if token == "FP" else 8
    raw = reader.take(width * (dim * (dim + 1) // 2), "a symmetric matrix")
    return np.frombuffer(raw, f"<f{width}").astype(np.float64)


def _read_text(reader: Reader) -> Doubles:
    """Rows of 1, 2, 3, ... numbers in brackets."""
    start = reader.position
    reader.expect("[")
    values: list[float] = []
    while reader.peek_token() != "]":
        values.append(reader.double())
    reader.expect("]")
    if len(values) != triangle(packed_dim(len(values))):
        reader.fail("the lower triangle of a matrix", f"{len(values)} numbers", at=start)
    return np.array(values)


def write_packed(writer: Writer, values: Doubles, double: bool = True) -> None:
    """Writes a lower triangle; `double` says whether in 64 or 32 bits."""
    dim = packed_dim(len(values))
    if writer.binary:
        writer.token("DP" if double else "FP")
        writer.integer(dim)
        writer.chunks.append(values.astype("<f8" if double else "<f4").tobytes())
        return
    rows, first = ["[" if dim else "[ "], 0
    for row in range(dim):
        numbers = values[first : first + row + 1].tolist()
        rows.append("\n" + "".join(f"{number:.7g} " for number in numbers))
        first += row + 1
    writer.chunks.append(("".join(rows) + "]\n").encode())


def triangle(dim: int) -> int:
    """Numbers of the lower triangle of a matrix of `dim` rows."""
    return dim * (dim + 1) // 2


def packed_dim(count: int) -> int:
    """Rows of the matrix whose lower triangle has so many numbers."""
    return int((np.sqrt(8 * count + 1) - 1) / 2 + 0.5)


@lru_cache(maxsize=8)
def _places(dim: int) -> NDArray[np.int64]:
    """Where each element of a symmetric matrix is in its lower triangle, (dim, dim)."""
    rows, columns = np.indices((dim, dim))
    lower, upper = np.maximum(rows, columns), np.minimum(rows, columns)
    return lower * (lower + 1) // 2 + upper


@lru_cache(maxsize=8)
def _triangle_places(dim: int) -> NDArray[np.int64]:
    """Where each element of a lower triangle is in its flattened matrix."""
    rows, columns = np.tril_indices(dim)
    return rows * dim + columns


def unpack(values: Doubles) -> Doubles:
    """The whole symmetric matrices, (..., dim, dim), of lower triangles."""
    return np.take(values, _places(packed_dim(values.shape[-1])), axis=-1)


def pack(matrices: Doubles) -> Doubles:
    """Lower triangles, (..., dim (dim + 1) / 2), of symmetric matrices."""
    dim = matrices.shape[-1]
    flat = matrices.reshape(*matrices.shape[:-2], dim * dim)
    return np.take(flat, _triangle_places(dim), axis=-1)
