"""The types of values in `key=value`, each a function from text to a Python value.

One place for the conversions that components and xconfig layers share; a wrong value becomes a
TextError at the value's place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from nnet.text.source import TextError
from nnet.text.syntax import Setting

T = TypeVar("T")

_INTEGER = re.compile(r"[-+]?[0-9]{1,32}")
_REAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")


class BadValue(ValueError):
    """Raised by a conversion; its message is what was expected.

    Args:
        expected: what would have been right.
        names: the words to choose from, where the value is one of a few words.
    """

    def __init__(self, expected: str, names: Iterable[str] = ()) -> None:
        super().__init__(expected)
        self.names = tuple(names)


def integer(text: str) -> int:
    """A decimal integer of at most 32 bits, as Kaldi's int32."""
    text = text.strip()
    if not _INTEGER.fullmatch(text):
        raise BadValue("an integer")
    if not -(2**31) <= int(text) < 2**31:
        raise BadValue("an integer of at most 32 bits")
    return int(text)


def real(text: str) -> float:
    """A finite number."""
    text = text.strip()
    if not _REAL.fullmatch(text):
        raise BadValue("a number")
    value = float(text)
    if not math.isfinite(value):
        raise BadValue("a finite number")
    return value


def boolean(text: str) -> bool:
    """true, false, or any word that starts like one of them, as Kaldi reads booleans."""
    first = text[:1].lower()
    if first not in ("t", "f"):
        raise BadValue("true or false")
    return first == "t"


def true_or_false(text: str) -> bool:
    """`true`, `True`, `false` or `False`, as Kaldi's xconfig tool reads booleans."""
    if text not in ("true", "True", "false", "False"):
        raise BadValue("true or false")
    return text in ("true", "True")


def string(text: str) -> str:
    return text


def name(text: str) -> str:
    """The name of a node, component or layer (Kaldi: IsValidName)."""
    if not _NAME.fullmatch(text):
        raise BadValue("letters, digits, '_', '-' and '.', starting with a letter or '_'")
    return text


def integers(text: str) -> tuple[int, ...]:
    """Integers separated by commas or colons, such as `-3,0,3`."""
    try:
        return tuple(integer(part) for part in re.split("[,:]", text))
    except BadValue:
        raise BadValue("integers separated by commas, such as -3,0,3") from None


def integer_pairs(text: str) -> tuple[tuple[int, int], ...]:
    """Pairs of integers separated by semicolons, such as `-1,0;0,0`."""
    try:
        pairs = tuple(tuple(integer(part) for part in pair.split(",")) for pair in text.split(";"))
    except BadValue:
        pairs = ((),)
    if any(len(pair) != 2 for pair in pairs):
        raise BadValue("pairs of integers separated by semicolons, such as -1,0;0,0")
    return tuple((first, second) for first, second in pairs)


def choice(*words: str) -> Callable[[str], str]:
    """One of some words."""

    def one_of(text: str) -> str:
        if text not in words:
            raise BadValue(" or ".join(words), words)
        return text

    return one_of


def accepted(conversion: Callable[[str], object]) -> str:
    """What a conversion accepts, in the words of its error."""
    try:
        conversion("\0")  # no conversion of a number, a word or a name accepts this
    except BadValue as error:
        return str(error)
    return "text"


def convert(setting: Setting, conversion: Callable[[str], T], *, hint: str | None = None) -> T:
    """The setting's value, or a TextError that points at it.

    Args:
        setting: what was written.
        conversion: from text to value.
        hint: what else the error should say.
    """
    try:
        return conversion(setting.value)
    except BadValue as error:
        hints = (_forgotten_equals(setting.value), _shell_variable(setting.value), hint)
        raise TextError(
            setting.value_span,
            f"wrong value '{setting.value}' for '{setting.key}'",
            expected=str(error),
            hint="\n".join(line for line in hints if line) or None,
            name=setting.value if error.names else None,
            names=error.names,
        ) from None


def _forgotten_equals(value: str) -> str | None:
    """A hint for values such as `40 input`, which began as `dim=40 input append`."""
    words = value.split()
    if len(words) < 2 or any(c in value for c in "(),"):
        return None
    return f"is a '=' missing after '{words[1]}'?"


def _shell_variable(value: str) -> str | None:
    """A hint for values such as `$num_targets`, copied out of a shell script."""
    found = re.search(r"\$\{?\w+\}?", value)
    return f"is {found.group()} a shell variable that was not filled in?" if found else None
