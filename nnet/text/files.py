"""Reading text files."""

from __future__ import annotations

import sys
from pathlib import Path

from nnet.errors import NnetError


def shown(name: str) -> str:
    """What errors call a file, or standard input for `-`."""
    return "<stdin>" if name == "-" else name


def read_text(name: str) -> str:
    """The content of a UTF-8 text file, or of standard input for `-`.

    Raises:
        NnetError: if it cannot be read or is not UTF-8 text.
    """
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise NnetError(f"cannot read '{name}': {error.strerror}") from None
    except ValueError as error:
        raise NnetError(f"cannot read '{name}': {error}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NnetError(
            f"cannot read '{name}': byte {error.start} is not UTF-8, expected a text file"
        ) from None
