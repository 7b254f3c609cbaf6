"""Kaldi's token streams, binary and text: reading.

A stream is a sequence of tokens (`<Dim>`), basic values and arrays. Everything is read from bytes
in memory; sizes are checked against the bytes that remain before anything is allocated, and every
error names the file, the byte offset and what was expected.
"""

from __future__ import annotations

import mmap
import re
import struct
from abc import ABC, abstractmethod
from typing import NoReturn

import numpy as np

from nnet.errors import NnetError
from nnet.modelfile.compressed import compressed_size, uncompress
from nnet.modelfile.kinds import named_instead

END = "the end of the file"
Content = bytes | mmap.mmap

BINARY_HEADER = b"\0B"
LONGEST_INTEGER = 12  # characters
UNSIGNED = b"\xfc"  # announces a uint32

_TOKEN = re.compile(rb"\s*(\S+)(\s?)")
_INTEGER = re.compile(rb"[-+]?\d+")
_NUMBER = re.compile(rb"[-+]?(\d+\.?\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|inf(inity)?|nan)", re.I)


class Reader(ABC):
    """A position in a token stream.

    Args:
        data: the whole file, in memory or mapped.
        name: the file's name, for errors.
        position: byte offset where to begin.
    """

    binary: bool

    def __init__(self, data: Content, name: str, position: int = 0) -> None:
        self.data = data
        self.name = name
        self.position = position

    @property
    def remaining(self) -> int:
        """Bytes that are left."""
        return len(self.data) - self.position

    def fail(self, expected: str, found: str | None = None, at: int | None = None) -> NoReturn:
        """Raises NnetError with file, byte offset, what was expected and what is there."""
        at = self.position if at is None else at
        if found is None:
            found = shortened(self.data[at : at + 40])
        hint = "; the file was cut short" if found.endswith(END) else ""
        if at <= len(BINARY_HEADER) and (named := named_instead(self.data)):
            hint = f"; {named}"
        raise NnetError(f"{self.name}: byte {at}: expected {expected}, found {found}{hint}")

    def token(self, expected: str = "a token") -> str:
        """The next token."""
        text, end = self._next_token(expected)
        self.position = end
        return text

    def peek_token(self) -> str | None:
        """The next token, left in the stream; None if there is none."""
        match = _TOKEN.match(self.data, self.position)
        return match[1].decode("latin-1") if match else None

    def expect(self, *tokens: str) -> str:
        """Reads one of `tokens`."""
        expected = " or ".join(tokens)
        text, end = self._next_token(expected)
        if text not in tokens:
            found = shortened(text.encode("latin-1"))
            cut = end == len(self.data) and any(token.startswith(text) for token in tokens)
            self.fail(expected, f"{found} before {END}" if cut else found)
        self.position = end
        return text

    def _next_token(self, expected: str) -> tuple[str, int]:
        match = _TOKEN.match(self.data, self.position)
        if match is None:
            self.fail(expected)
        if not match[2] and match.end() < len(self.data):
            self.fail(f"white space after {expected}", at=match.end())
        return match[1].decode("latin-1"), match.end()

    def line(self) -> str:
        """The rest of the current line, without its end."""
        end = self.data.find(b"\n", self.position)
        if end < 0:
            self.fail("the end of a line", END, at=len(self.data))
        raw = self.data[self.position : end]
        try:
            text = raw.decode().removesuffix("\r")
        except UnicodeDecodeError as error:
            self.fail("text in UTF-8", at=self.position + error.start)
        self.position = end + 1
        return text

    @abstractmethod
    def integer(self) -> int:
        """An int32."""

    def integer_list(self, count: int) -> list[int]:
        """`count` int32 one after the other."""
        return [self.integer() for _ in range(count)]

    @abstractmethod
    def unsigned(self) -> int:
        """A uint32."""

    @abstractmethod
    def real(self) -> float:
        """A float32 (a float64 is accepted and rounded)."""

    @abstractmethod
    def double(self) -> float:
        """A float64 (a float32 is accepted)."""

    @abstractmethod
    def boolean(self) -> bool:
        """T or F."""

    @abstractmethod
    def integers(self) -> tuple[int, ...]:
        """A vector of int32."""

    @abstractmethod
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """A vector of pairs of int32."""

    def vector(self) -> np.ndarray:
        """A vector, as float32 (dim,)."""
        return as_float32(self.double_vector())

    def matrix(self) -> np.ndarray:
        """A matrix, as float32 (rows, columns)."""
        return as_float32(self.double_matrix())

    @abstractmethod
    def double_vector(self) -> np.ndarray:
        """A vector, as float64 (dim,), or as float32 if it is stored so."""

    @abstractmethod
    def double_matrix(self) -> np.ndarray:
        """A matrix, as float64 (rows, columns), or as float32 if it is stored so."""


def as_float32(values: np.ndarray) -> np.ndarray:
    """The same numbers as float32; those that are too large become infinite."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def shortened(raw: bytes) -> str:
    """The beginning of some bytes, printable."""
    if not raw:
        return END
    text = repr(raw[:40])[1:]
    return text + "..." if len(raw) > 40 else text


class BinaryReader(Reader):
    """A binary token stream (after its `\\0B`)."""

    binary = True

    def take(self, size: int, what: str) -> bytes:
        """The next `size` bytes."""
        if size > self.remaining:
            self.fail(f"{size} bytes of {what}", f"only {self.remaining} before {END}")
        raw = self.data[self.position : self.position + size]
        self.position += size
        return raw

    def ahead(self, size: int) -> bytes:
        """Up to `size` bytes that come next, left in the stream."""
        return self.data[self.position : self.position + size]

    def integer(self) -> int:
        if self.data[self.position : self.position + 1] != b"\x04":
            self.fail("the size byte 4 of an int32")
        (value,) = struct.unpack("<i", self.take(5, "an int32")[1:])
        return int(value)

    def unsigned(self) -> int:
        if self.data[self.position : self.position + 1] != UNSIGNED:
            self.fail("the size byte -4 of a uint32")
        (value,) = struct.unpack("<I", self.take(5, "a uint32")[1:])
        return int(value)

    def integer_list(self, count: int) -> list[int]:
        raw = self.take(5 * count, f"{count} integers")
        records = np.frombuffer(raw, [("size", "u1"), ("value", "<i4")])
        if (records["size"] != 4).any():
            self.fail("the size byte 4 of every int32", at=self.position - len(raw))
        return records["value"].tolist()

    def real(self) -> float:
        with np.errstate(over="ignore"):
            return float(np.float32(self.double()))

    def double(self) -> float:
        size = self.data[self.position : self.position + 1]
        if size == b"\x04":
            (value,) = struct.unpack("<f", self.take(5, "a float32")[1:])
        elif size == b"\x08":
            (value,) = struct.unpack("<d", self.take(9, "a float64")[1:])
        else:
            self.fail("the size byte (4 or 8) of a number")
        return float(value)

    def boolean(self) -> bool:
        byte = self.data[self.position : self.position + 1]
        if byte not in (b"T", b"F"):
            self.fail("T or F")
        self.position += 1
        return byte == b"T"

    def integers(self) -> tuple[int, ...]:
        if self.ahead(1) == b"F":  # an old PermuteComponent stores floats
            return self._integers_as_floats()
        if self.take(1, "the size of an integer") != b"\x04":
            self.fail("the size byte 4 of int32", at=self.position - 1)
        count = self._count("the length of a vector")
        return struct.unpack(f"<{count}i", self.take(4 * count, "a vector of integers"))

    def _integers_as_floats(self) -> tuple[int, ...]:
        start = self.position
        values = self.vector()
        if not (np.abs(values) < 2**24).all() or (values != np.round(values)).any():
            self.fail("a vector of integers", "a vector of other numbers", at=start)
        return tuple(int(value) for value in values)

    def pairs(self) -> tuple[tuple[int, int], ...]:
        if self.take(1, "the size of an integer") != b"\x04":
            self.fail("the size byte 4 of int32", at=self.position - 1)
        count = self._count("the length of a vector")
        raw = self.take(8 * count, "a vector of pairs")
        return tuple(struct.iter_unpack("<ii", raw))

    def _count(self, what: str) -> int:
        (count,) = struct.unpack("<i", self.take(4, what))
        if count < 0:
            self.fail(what, str(count), at=self.position - 4)
        return int(count)

    def _dimension(self, what: str) -> int:
        start = self.position
        value = self.integer()
        if value < 0:
            self.fail(what, str(value), at=start)
        return value

    def double_vector(self) -> np.ndarray:
        token = self.expect("FV", "DV")
        size = self._dimension("the length of a vector")
        return self._array(token[0], size, "a vector")

    def double_matrix(self) -> np.ndarray:
        token = self.expect("FM", "DM", "CM", "CM2", "CM3")
        if token.startswith("C"):
            return self._compressed(token)
        rows = self._dimension("the number of rows")
        columns = self._dimension("the number of columns")
        return self._array(token[0], rows * columns, "a matrix").reshape(rows, columns)

    def _array(self, letter: str, size: int, what: str) -> np.ndarray:
        width = 4 if letter == "F" else 8
        raw = self.take(width * size, what)
        return np.frombuffer(raw, f"<f{width}").copy()

    def _compressed(self, token: str) -> np.ndarray:
        what = "a compressed matrix"
        minimum, spread, rows, columns = struct.unpack("<ffii", self.take(16, what))
        if rows < 0 or columns < 0:
            self.fail("dimensions of a compressed matrix", f"{rows} x {columns}")
        raw = self.take(compressed_size(token, rows, columns), what)
        return uncompress(token, minimum, spread, rows, columns, raw)


def _fits(word: bytes) -> bool:
    """Whether the text of an integer is one of 32 bits."""
    return len(word) <= LONGEST_INTEGER and -(2**31) <= int(word) < 2**31


class TextReader(Reader):
    """A token stream in text form."""

    binary = False

    def _word(self, pattern: re.Pattern[bytes], what: str) -> bytes:
        match = _TOKEN.match(self.data, self.position)
        if match is None or not pattern.fullmatch(match[1]):
            self.fail(what)
        self.position = match.end()
        return match[1]

    def integer(self) -> int:
        start = self.position
        word = self._word(_INTEGER, "an integer")
        if not _fits(word):
            self.fail("an integer of 32 bits", at=start)
        return int(word)

    def unsigned(self) -> int:
        start = self.position
        word = self._word(_INTEGER, "an unsigned integer")
        if len(word) > LONGEST_INTEGER or not 0 <= int(word) < 2**32:
            self.fail("an unsigned integer of 32 bits", at=start)
        return int(word)

    def real(self) -> float:
        with np.errstate(over="ignore"):
            return float(np.float32(self.double()))

    def double(self) -> float:
        return float(self._word(_NUMBER, "a number"))

    def boolean(self) -> bool:
        return self._word(re.compile(b"[TF]"), "T or F") == b"T"

    def integers(self) -> tuple[int, ...]:
        start, content = self._brackets("a vector of integers")
        return tuple(self._integer(word, start) for word in content.split())

    def pairs(self) -> tuple[tuple[int, int], ...]:
        start, content = self._brackets("a vector of pairs")
        words = content.split()
        for word in words:
            if word.count(b",") != 1:
                self.fail("pairs of integers such as -1,0", shortened(word), at=start)
        halves = [word.split(b",") for word in words]
        return tuple((self._integer(a, start), self._integer(b, start)) for a, b in halves)

    def _integer(self, word: bytes, start: int) -> int:
        if not _INTEGER.fullmatch(word) or not _fits(word):
            self.fail("a vector of integers of 32 bits", shortened(word), at=start)
        return int(word)

    def double_vector(self) -> np.ndarray:
        start, content = self._brackets("a vector")
        if b"\n" in content:
            self.fail("a vector in one line", "a line end in it", at=start)
        return self._numbers(content, start)

    def double_matrix(self) -> np.ndarray:
        start, content = self._brackets("a matrix")
        rows = [row for row in content.replace(b";", b"\n").split(b"\n") if row.strip()]
        if not rows:
            return np.zeros((0, 0), np.float32)
        columns = len(rows[0].split())
        for row in rows:
            if len(row.split()) != columns:
                self.fail(
                    f"a matrix with {columns} columns in every row",
                    f"a row with {len(row.split())}",
                    at=start,
                )
        return self._numbers(b" ".join(rows), start).reshape(len(rows), columns)

    def _brackets(self, what: str) -> tuple[int, bytes]:
        """Where the next `[` is, and what stands between it and its `]`."""
        match = re.compile(rb"\s*\[").match(self.data, self.position)
        if match is None:
            self.fail(f"{what} that begins with [")
        end = self.data.find(b"]", match.end())
        if end < 0:
            self.fail(f"] at the end of {what}", END, at=len(self.data))
        after = self.data[end + 1 : end + 2]
        self.position = end + 2 if after == b"\n" else end + 1
        return match.end(), self.data[match.end() : end]

    def _numbers(self, content: bytes, start: int) -> np.ndarray:
        words = content.split()
        try:
            values = np.array([float(word) for word in words])
        except ValueError:
            values = None
        if values is None or b"_" in content:
            wrong = next(word for word in words if not _NUMBER.fullmatch(word))
            self.fail("numbers", shortened(wrong), at=start)
        return values
