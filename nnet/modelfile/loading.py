"""Opening a Kaldi file, binary or text."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from nnet.errors import NnetError
from nnet.modelfile.tokens import BINARY_HEADER, BinaryReader, Reader, TextReader


def open_bytes(data: bytes, name: str) -> Reader:
    """A reader of a Kaldi file's content; the first bytes say whether it is binary or text."""
    if data.startswith(BINARY_HEADER):
        return BinaryReader(data, name, len(BINARY_HEADER))
    return TextReader(data, name)


def open_file(path: str | os.PathLike[str]) -> Reader:
    """A reader of a Kaldi file; `-` is standard input.

    Raises:
        NnetError: the file can not be read.
    """
    if str(path) == "-":
        return open_bytes(sys.stdin.buffer.read(), "<stdin>")
    try:
        return open_bytes(Path(path).read_bytes(), str(path))
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise NnetError(f"{path}: cannot read: {reason}") from None


def read_matrix(path: str | os.PathLike[str]) -> np.ndarray:
    """A Kaldi matrix file, binary or text, as float32 (rows, columns)."""
    return open_file(path).matrix()


def read_vector(path: str | os.PathLike[str]) -> np.ndarray:
    """A Kaldi vector file, binary or text, as float32 (dim,)."""
    return open_file(path).vector()
