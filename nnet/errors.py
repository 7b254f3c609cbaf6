"""The one family of errors that a user can cause."""

from __future__ import annotations

import re
from collections.abc import Iterable

QUOTED = 200
"""The most characters that a message repeats of a value that it quotes."""

LONGEST_MESSAGE = 3000

_LONG = re.compile(rf"'[^'\n]{{{QUOTED + 1},}}'|\S{{{QUOTED + 1},}}")


class NnetError(Exception):
    """A user's mistake: wrong text, a damaged file, an impossible request.

    The message says what was found, where, what was expected and what to do. Commands print it
    and exit with status 1; anything else that escapes is a defect of the product. What it quotes
    is cut to 200 characters.
    """

    def __init__(self, message: str) -> None:
        short = _LONG.sub(lambda found: quoted(found.group()), message)
        super().__init__(quoted(short, LONGEST_MESSAGE))


def quoted(value: object, most: int = QUOTED) -> str:
    """A value in a message: its text, or the two ends of a text of more than `most` characters."""
    text = str(value)
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}...{text[-half:]}"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that the writer of `name` probably meant, or None if nothing is close."""
    import difflib  # here, as only errors need it

    if len(name) > QUOTED:
        return None
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return found[0] if found else None
