"""Binary token streams that are read piece by piece, so that they need not fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from nnet.modelfile.tokens import BINARY_HEADER, END, BinaryReader

PIECE = 1 << 20
LOOKAHEAD = 4096
"""Bytes that are there at any time, if the stream has them: more than any token."""


class StreamReader(BinaryReader):
    """A binary token stream over a file, pipe or socket that is read as it is needed.

    Args:
        read: gives up to so many bytes, and none only at the end of the stream.
        name: the stream's name, for errors.
    """

    def __init__(self, read: Callable[[int], bytes], name: str) -> None:
        super().__init__(b"", name)
        self._read = read
        self._passed = 0
        self._ended = False
        self._fill(LOOKAHEAD)

    def take(self, size: int, what: str) -> bytes:
        self._fill(size + LOOKAHEAD)
        return super().take(size, what)

    def ahead(self, size: int) -> bytes:
        self._fill(size + LOOKAHEAD)
        return super().ahead(size)

    def token(self, expected: str = "a token") -> str:
        self._fill(LOOKAHEAD)
        return super().token(expected)

    def fail(self, expected: str, found: str | None = None, at: int | None = None) -> NoReturn:
        at = self.position if at is None else at
        if found is None:
            found = repr(self.data[at : at + 40])[1:] if at < len(self.data) else None
        super().fail(expected, found or END, at=at + self._passed)

    def begin_object(self) -> None:
        """Passes over the mark of a binary object."""
        if self.take(len(BINARY_HEADER), "a binary object") != BINARY_HEADER:
            self.fail("a binary object", at=self.position - len(BINARY_HEADER))

    def at_end(self) -> bool:
        """Whether nothing is left but white space."""
        self._fill(LOOKAHEAD)
        return self.peek_token() is None

    def _fill(self, wanted: int) -> None:
        """Makes `wanted` bytes available, if the stream has them."""
        if self._ended or self.remaining >= wanted:
            return
        parts = [self.data[self.position :]]
        missing = wanted - self.remaining
        while missing > 0:
            piece = self._read(max(PIECE, min(missing, 16 * PIECE)))
            if not piece:
                self._ended = True
                break
            parts.append(piece)
            missing -= len(piece)
        self._passed += self.position
        self.position = 0
        self.data = b"".join(parts)
