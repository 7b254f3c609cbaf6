"""Arguments of public functions that are not what they should be."""

from __future__ import annotations

from typing import Any

from nnet.errors import NnetError


def check_argument(value: object, kinds: type | tuple[type, ...], name: str, expected: str) -> None:
    """Raises NnetError unless a value is of one of some types.

    Args:
        name: what the argument is called.
        expected: what it should be, and where that comes from.
    """
    if not isinstance(value, kinds):
        raise NnetError(f"{name} is {described(value)}; expected: {expected}")


def described(value: Any) -> str:
    """What a value is, in a few words: its type, and the shape of an array."""
    if value is None:
        return "None"
    kind = type(value).__name__
    shape = getattr(value, "shape", None)
    if shape is not None and hasattr(value, "dtype"):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"a {kind} of {dtype} of shape {tuple(shape)}"
    article = "an" if kind[:1].lower() in "aeiou" else "a"
    return f"{article} {kind}"
