"""Kaldi's token streams, binary and text: writing."""

from __future__ import annotations

import os
import struct
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from nnet.modelfile.tokens import BINARY_HEADER, UNSIGNED


class Writer(ABC):
    """Collects a token stream; `bytes()` gives it."""

    binary: bool

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def __bytes__(self) -> bytes:
        return b"".join(self.chunks)

    def token(self, token: str) -> None:
        self.chunks.append(token.encode() + b" ")

    def line(self, text: str = "") -> None:
        """Text and a line end, the same in both forms."""
        self.chunks.append(text.encode() + b"\n")

    @abstractmethod
    def text_newline(self) -> None:
        """A line end in the text form only."""

    @abstractmethod
    def integer(self, value: int) -> None:
        """An int32."""

    @abstractmethod
    def unsigned(self, value: int) -> None:
        """A uint32."""

    @abstractmethod
    def real(self, value: float) -> None:
        """A float32."""

    @abstractmethod
    def double(self, value: float) -> None:
        """A float64."""

    @abstractmethod
    def boolean(self, value: bool) -> None:
        """T or F."""

    @abstractmethod
    def integers(self, values: Sequence[int]) -> None:
        """A vector of int32."""

    @abstractmethod
    def pairs(self, values: Sequence[tuple[int, int]]) -> None:
        """A vector of pairs of int32."""

    @abstractmethod
    def vector(self, values: np.ndarray | None) -> None:
        """A vector of float32 (dim,); None is an empty one."""

    @abstractmethod
    def matrix(self, values: np.ndarray) -> None:
        """A matrix of float32 (rows, columns)."""

    @abstractmethod
    def double_vector(self, values: np.ndarray) -> None:
        """A vector of float64 (dim,)."""

    @abstractmethod
    def double_matrix(self, values: np.ndarray) -> None:
        """A matrix of float64 (rows, columns)."""


class BinaryWriter(Writer):
    binary = True

    def __init__(self) -> None:
        super().__init__()
        self.chunks.append(BINARY_HEADER)

    def text_newline(self) -> None:
        return

    def integer(self, value: int) -> None:
        self.chunks.append(struct.pack("<bi", 4, value))

    def unsigned(self, value: int) -> None:
        self.chunks.append(UNSIGNED + struct.pack("<I", value))

    def real(self, value: float) -> None:
        self.chunks.append(b"\x04" + np.float32(value).tobytes())

    def double(self, value: float) -> None:
        self.chunks.append(struct.pack("<bd", 8, value))

    def boolean(self, value: bool) -> None:
        self.chunks.append(b"T" if value else b"F")

    def integers(self, values: Sequence[int]) -> None:
        self.chunks.append(struct.pack(f"<bi{len(values)}i", 4, len(values), *values))

    def pairs(self, values: Sequence[tuple[int, int]]) -> None:
        flat = [number for pair in values for number in pair]
        self.chunks.append(struct.pack(f"<bi{len(flat)}i", 4, len(values), *flat))

    def vector(self, values: np.ndarray | None) -> None:
        self._array("FV", "<f4", np.zeros(0) if values is None else values)

    def matrix(self, values: np.ndarray) -> None:
        self._array("FM", "<f4", values)

    def double_vector(self, values: np.ndarray) -> None:
        self._array("DV", "<f8", values)

    def double_matrix(self, values: np.ndarray) -> None:
        self._array("DM", "<f8", values)

    def _array(self, token: str, form: str, values: np.ndarray) -> None:
        self.token(token)
        for size in values.shape:
            self.integer(size)
        self.chunks.append(values.astype(form).tobytes())


class TextWriter(Writer):
    """Numbers have 7 significant digits, as in Kaldi."""

    binary = False

    def _words(self, *words: object) -> None:
        self.chunks.append("".join(f"{word} " for word in words).encode())

    def text_newline(self) -> None:
        self.chunks.append(b"\n")

    def integer(self, value: int) -> None:
        self._words(value)

    def unsigned(self, value: int) -> None:
        self._words(value)

    def real(self, value: float) -> None:
        self._words(f"{np.float32(value):.7g}")

    def double(self, value: float) -> None:
        self._words(f"{value:.7g}")

    def boolean(self, value: bool) -> None:
        self._words("T" if value else "F")

    def integers(self, values: Sequence[int]) -> None:
        self._words("[", *values)
        self.chunks.append(b"]\n")

    def pairs(self, values: Sequence[tuple[int, int]]) -> None:
        self._words("[", *(f"{first},{second}" for first, second in values))
        self.chunks.append(b"]\n")

    def vector(self, values: np.ndarray | None) -> None:
        numbers = [] if values is None else values.tolist()
        self.chunks.append(f" [ {'%.7g ' * len(numbers) % tuple(numbers)}]\n".encode())

    def matrix(self, values: np.ndarray) -> None:
        if values.size == 0:
            self.chunks.append(b" [ ]\n")
            return
        row_format = "\n  " + "%.7g " * values.shape[1]
        self.chunks.append(b" [")
        self.chunks.extend((row_format % tuple(row)).encode() for row in values.tolist())
        self.chunks.append(b"]\n")

    def double_vector(self, values: np.ndarray) -> None:
        self.vector(values)

    def double_matrix(self, values: np.ndarray) -> None:
        self.matrix(values)


def save_bytes(content: bytes, path: str | os.PathLike[str]) -> None:
    """Writes a file whole or not at all; `-` is standard output.

    Raises:
        NnetError: the file can not be written.
    """
    if str(path) == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    from nnet.atomic import atomic_write

    with atomic_write(os.fspath(path)) as file:
        file.write(content)
