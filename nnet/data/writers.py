"""Kaldi's tables, written: archives that appear whole, and script files that point into them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import BinaryIO, Generic, TypeVar

from nnet.data.errors import TableError
from nnet.data.matrices import Floats, write_matrix, write_vector
from nnet.data.posteriors import Ids, Posterior, write_alignment, write_posterior
from nnet.data.specifiers import parse_wspecifier
from nnet.data.streams import open_output

T = TypeVar("T")


class TableWriter(Generic[T]):
    """Writes a table; a context manager.

    Files get their names when the block ends without an error; otherwise nothing is left behind.

    Args:
        wspecifier: such as `ark:out.ark`, `ark,t:-` or `ark,scp:out.ark,out.scp`.
        write: writes one object to (stream, object, binary).
    """

    def __init__(self, wspecifier: str, write: Callable[[BinaryIO, T, bool], None]) -> None:
        self._spec = parse_wspecifier(wspecifier)
        self._write = write
        self._stack = ExitStack()
        if self._spec.script and (self._spec.archive == "-" or self._spec.archive[0] == "|"):
            raise TableError(
                wspecifier,
                "a script file cannot point into a pipe",
                expected="ark,scp:FILE.ark,FILE.scp",
            )
        if self._spec.script and _same_file(self._spec.archive, self._spec.script):
            raise TableError(
                wspecifier,
                "archive and script file are the same file",
                expected="ark,scp:FILE.ark,FILE.scp with two names",
            )

    def __enter__(self) -> TableWriter[T]:
        self._archive = self._stack.enter_context(open_output(self._spec.archive))
        self._script = (
            self._stack.enter_context(open_output(self._spec.script)) if self._spec.script else None
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, utterance: str, value: T) -> None:
        """Appends one entry.

        Raises:
            TableError: the name is empty or has spaces.
        """
        if not utterance or len(utterance.split()) != 1:
            raise TableError(
                self._spec.text,
                f"cannot write an entry named '{utterance}'",
                expected="names without spaces",
            )
        self._archive.write(f"{utterance} ".encode())
        if self._script is not None:
            line = f"{utterance} {self._spec.archive}:{self._archive.tell()}\n"
            self._script.write(line.encode())
        self._write(self._archive, value, self._spec.binary)
        if self._spec.flush:
            self._archive.flush()


def _same_file(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


class MatrixWriter(TableWriter[Floats]):
    """A table of float32 matrices, shape (frames, dim)."""

    def __init__(self, wspecifier: str) -> None:
        super().__init__(wspecifier, write_matrix)


class VectorWriter(TableWriter[Floats]):
    """A table of float32 vectors, such as i-vectors of speakers."""

    def __init__(self, wspecifier: str) -> None:
        super().__init__(wspecifier, write_vector)


class AlignmentWriter(TableWriter[Ids]):
    """A table of integers, one a frame."""

    def __init__(self, wspecifier: str) -> None:
        super().__init__(wspecifier, write_alignment)


class PosteriorWriter(TableWriter[Posterior]):
    """A table of posteriors."""

    def __init__(self, wspecifier: str) -> None:
        super().__init__(wspecifier, write_posterior)
