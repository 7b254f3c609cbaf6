"""The one family of errors that a user can cause."""

from __future__ import annotations

from collections.abc import Iterable


class NnetError(Exception):
    """A user's mistake: wrong text, a damaged file, an impossible request.

    The message says what was found, where, what was expected and what to do. Commands print it
    and exit with status 1; anything else that escapes is a defect of the product.
    """


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that the writer of `name` probably meant, or None if nothing is close."""
    import difflib  # here, as only errors need it

    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return found[0] if found else None
