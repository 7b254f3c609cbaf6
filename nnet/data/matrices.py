"""Matrices and vectors of floats as Kaldi stores them: binary, compressed and text."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nnet.data.streams import ByteReader, printable
from nnet.modelfile.compressed import STEPS, compressed_size, uncompress
from nnet.modelfile.tokens import as_float32

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
KINDS = "a matrix (FM, DM, CM, CM2, CM3 or text in [ ])"
ELEMENT: dict[str, np.dtype[Any]] = {
    "FM": np.dtype("<f4"),
    "DM": np.dtype("<f8"),
    "FV": np.dtype("<f4"),
    "DV": np.dtype("<f8"),
}


@dataclass(frozen=True)
class Header:
    """What precedes the numbers. `minimum` and `range` belong to compressed matrices."""

    token: str
    rows: int
    columns: int
    minimum: float = 0.0
    range: float = 0.0

    @property
    def bytes_that_follow(self) -> int:
        if self.token in STEPS:
            return compressed_size(self.token, self.rows, self.columns)
        return self.rows * self.columns * ELEMENT[self.token].itemsize


def read_matrix(reader: ByteReader) -> Floats:
    """Reads one matrix, shape (rows, columns), from just after its utterance name."""
    return read_binary_matrix(reader) if begins_binary(reader) else read_text_matrix(reader)


def read_binary_matrix(reader: ByteReader) -> Floats:
    """Reads one matrix from just after Kaldi's binary mark."""
    header = _read_header(reader)
    if header.token[1:] == "V":
        raise reader.error(f"a vector of {header.columns} numbers", expected="a matrix")
    return _read_numbers(reader, header)


def read_text_matrix(reader: ByteReader, first_line: bytes = b"") -> Floats:
    """Reads a matrix in brackets, one line a row. A vector in text is a matrix of one row.

    Args:
        reader: stands after the utterance's name, or after `first_line`.
        first_line: what was read already.
    """
    return as_float32(_read_text_numbers(reader, first_line))


def _read_text_numbers(reader: ByteReader, first_line: bytes = b"") -> Doubles:
    """A matrix in brackets, with all its digits."""
    lines = [first_line or reader.line()]
    while not lines[0].strip() and reader.peek():
        lines[0] = reader.line()
    if not lines[0].lstrip().startswith(b"["):
        raise reader.error(f"found '{printable(lines[0][:20].strip())}'", expected=KINDS)
    while b"]" not in lines[-1]:
        if not reader.peek():
            raise reader.error("the file ends inside a matrix", expected="]")
        lines.append(reader.line())
    body = b"".join(lines).partition(b"[")[2].partition(b"]")[0]
    rows = [row.split() for row in re.split(rb"[\n;]", body) if row.strip()]
    if len({len(row) for row in rows}) > 1:
        lengths = [len(row) for row in rows]
        other = next(i for i, length in enumerate(lengths) if length != lengths[0])
        raise reader.error(
            f"row {other} has {lengths[other]} numbers and row 0 has {lengths[0]}",
            expected="rows of one length",
        )
    try:
        numbers = np.array(rows, dtype=np.float64)
    except ValueError:
        wrong = next(word for row in rows for word in row if not _is_number(word))
        found = f"found '{printable(wrong)}' in a matrix of text"
        raise reader.error(found, expected="numbers") from None
    return numbers.reshape(len(rows), -1 if rows else 0)


def read_double_matrix(reader: ByteReader) -> Doubles:
    """Reads one matrix, shape (rows, columns), such as CMVN statistics, with all its digits."""
    if not begins_binary(reader):
        return _read_text_numbers(reader)
    header = _read_header(reader)
    if header.token in ELEMENT and header.token[1:] == "M":
        data = reader.take(header.bytes_that_follow)
        numbers = np.frombuffer(data, ELEMENT[header.token])
        return numbers.reshape(header.rows, header.columns).astype(np.float64)
    raise reader.error(f"found the token '{header.token}'", expected="a matrix (FM or DM)")


def skip_matrix(reader: ByteReader) -> tuple[int, int]:
    """Passes over one matrix and returns (rows, columns), reading only its header if binary."""
    if not begins_binary(reader):
        rows, columns = read_text_matrix(reader).shape
        return rows, columns
    header = _read_header(reader)
    reader.skip(header.bytes_that_follow)
    return header.rows, header.columns


def read_vector_or_matrix(reader: ByteReader) -> Floats:
    """Reads a vector, shape (1, n), or a matrix, shape (rows, n): i-vectors come as both."""
    if not begins_binary(reader):
        return read_text_matrix(reader)
    return _read_numbers(reader, _read_header(reader))


def write_matrix(stream: BinaryIO, matrix: NDArray[Any], binary: bool = True) -> None:
    """Writes a float32 matrix, shape (rows, columns), byte for byte as Kaldi does."""
    rows, columns = matrix.shape
    if binary:
        stream.write(b"\0BFM " + _int32(rows) + _int32(columns))
        stream.write(np.ascontiguousarray(matrix, "<f4").tobytes())
    elif columns == 0:
        stream.write(b" [ ]\n")
    else:
        body = "".join("\n  " + _row(row) for row in matrix)
        stream.write(f" [{body}]\n".encode())


def write_double_matrix(stream: BinaryIO, matrix: Doubles, binary: bool = True) -> None:
    """Writes a float64 matrix, shape (rows, columns), such as CMVN statistics."""
    if not binary:
        write_matrix(stream, matrix, binary=False)
        return
    rows, columns = matrix.shape
    stream.write(b"\0BDM " + _int32(rows) + _int32(columns))
    stream.write(np.ascontiguousarray(matrix, "<f8").tobytes())


def write_vector(stream: BinaryIO, vector: Floats, binary: bool = True) -> None:
    """Writes a float32 vector, shape (n,)."""
    if binary:
        stream.write(b"\0BFV " + _int32(len(vector)))
        stream.write(np.ascontiguousarray(vector, "<f4").tobytes())
    else:
        stream.write(f" [ {_row(vector)}]\n".encode())


def begins_binary(reader: ByteReader) -> bool:
    """Consumes Kaldi's binary mark, the bytes 0 and B, if they come next."""
    if reader.peek() != b"\0":
        return False
    if reader.take(2) != b"\0B":
        raise reader.error("a zero byte that is not followed by B", expected=KINDS)
    return True


def read_int32(reader: ByteReader) -> int:
    """One of Kaldi's sized integers: the byte 4, then 32 bits."""
    size, value = struct.unpack("<bi", reader.take(5))
    if size != 4:
        raise reader.error(f"an integer of {abs(size)} bytes", expected="an integer of 4 bytes")
    return int(value)


def _read_header(reader: ByteReader) -> Header:
    token = printable(reader.word(longest=16))
    if token in STEPS:
        minimum, spread, rows, columns = struct.unpack("<ffii", reader.take(16))
        header = Header(token, rows, columns, minimum, spread)
    elif token in ("FM", "DM"):
        header = Header(token, read_int32(reader), read_int32(reader))
    elif token in ("FV", "DV"):
        header = Header(token, 1, read_int32(reader))
    else:
        raise reader.error(f"found the token '{token}'", expected=KINDS)
    if header.rows < 0 or header.columns < 0:
        raise reader.error(
            f"a matrix of {header.rows} by {header.columns}", expected="sizes of 0 or more"
        )
    return header


def _read_numbers(reader: ByteReader, header: Header) -> Floats:
    data = reader.take(header.bytes_that_follow)
    rows, columns = header.rows, header.columns
    if header.token in STEPS:
        return uncompress(header.token, header.minimum, header.range, rows, columns, data)
    numbers = np.frombuffer(data, ELEMENT[header.token]).reshape(rows, columns)
    with np.errstate(over="ignore"):  # as in `as_float32`, and always a copy
        return numbers.astype(np.float32)


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _int32(value: int) -> bytes:
    return struct.pack("<bi", 4, value)


def _row(row: NDArray[Any]) -> str:
    return "".join(f"{value:.7g} " for value in row.tolist())
