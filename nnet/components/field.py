"""How the fields of a component are declared.

A field is declared once, in the class of its component, by `stored(...)`. From this declaration
come its key in config files, its default, its check, its token in model files and the order of
tokens, its part of the info line, and its documentation. `Setting` declares a config key that
only shapes the initial parameters; `Old` declares a token that only old model files hold.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnet.text import values


class Kind(enum.Enum):
    """What a field holds, and with it how files store it and how config text becomes a value."""

    INTEGER = "integer"  # int32
    REAL = "number"  # float32
    DOUBLE = "double number"  # float64
    BOOLEAN = "true or false"
    FLAG = "flag"  # a token that is there or not
    INTEGERS = "integers"  # vector of int32
    PAIRS = "pairs of integers"  # vector of pairs of int32
    VECTOR = "vector"  # of float32
    MATRIX = "matrix"  # of float32
    DOUBLE_VECTOR = "double vector"  # of float64
    DOUBLE_MATRIX = "double matrix"  # of float64
    TEXT = "text"  # a word in model files
    COMPONENT = "component"  # in config files only: its settings, quoted
    COMPONENTS = "components"  # a list of components, in model files only


LARGEST = float(np.finfo(np.float32).max)


def single(value: float) -> float:
    """A number rounded to float32, which is what files can hold."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _real(text: str) -> float:
    value = values.real(text)
    if abs(value) > LARGEST:
        raise values.BadValue("a number that fits in 32 bits")
    return single(value)


CONVERSIONS: dict[Kind, Callable[[str], Any]] = {
    Kind.INTEGER: values.integer,
    Kind.REAL: _real,
    Kind.BOOLEAN: values.boolean,
    Kind.FLAG: values.boolean,
    Kind.INTEGERS: values.integers,
    Kind.PAIRS: values.integer_pairs,
    Kind.TEXT: values.string,
}


def largest_integer(kind: Kind, value: Any) -> int:
    """The largest of the integers that a field holds, its sign aside; 0 if it holds none."""
    if kind is Kind.INTEGER:
        return abs(int(value))
    if kind is Kind.INTEGERS:
        return max(map(abs, value), default=0)
    if kind is Kind.PAIRS:
        return max((abs(number) for pair in value for number in pair), default=0)
    return 0


class Role(enum.Enum):
    """What happens to a field when a model is scaled or averaged."""

    SETTING = "setting"  # nothing
    PARAMETER = "parameter"  # trained; scaled
    FIXED = "fixed"  # numbers that are neither trained nor scaled
    COUNT = "count"  # a sum over frames; scaled
    AVERAGE = "average"  # a mean over counted frames; unchanged, as its count is scaled


class Presence(enum.Enum):
    """When a field's token is in a model file."""

    ALWAYS = "always"
    SINCE = "since"  # always written, missing in files of older versions
    NONDEFAULT = "nondefault"  # only where the value differs from the default


@dataclass(frozen=True)
class Check:
    """A condition on one value; `text` completes the sentence `dim (=-3) must be ...`."""

    text: str
    holds: Callable[[Any], bool]


POSITIVE = Check("positive", lambda value: value > 0)
NOT_NEGATIVE = Check("zero or more", lambda value: value >= 0)
PROPORTION = Check("between 0 and 1", lambda value: 0 <= value <= 1)


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED = _Required()


@dataclass(frozen=True)
class Spec:
    """The declaration of one field; see `stored`."""

    kind: Kind
    doc: str
    token: str | None
    key: str | None
    default: Any
    unset: Any
    missing: Any
    check: Check | None
    role: Role
    presence: Presence
    shown: bool
    info: Callable[[Any], str] | None


def stored(
    kind: Kind,
    token: str | None,
    doc: str,
    *,
    key: str | None = None,
    default: Any = REQUIRED,
    unset: Any = None,
    missing: Any = None,
    check: Check | None = None,
    role: Role = Role.SETTING,
    presence: Presence = Presence.ALWAYS,
    shown: bool = True,
    info: Callable[[Any], str] | None = None,
) -> Any:
    """Declares a field that model files store. Fields stand in the order of their tokens.

    Args:
        kind: what it holds.
        token: its token, such as `<Dim>`; None if it follows the value before it without one.
        doc: what it means, with units.
        key: its key in config files, or None if it can not be set there.
        default: a value, or a function from the component to a value.
        unset: a value that in config files means the default (nnet3 uses -1 so).
        missing: what files of older versions mean that lack it; its default if None.
        check: a condition on the value.
        role: what scaling and averaging of models do with it.
        presence: when its token is in the file.
        shown: whether the info line shows it when it has its default value.
        info: its text in the info line; `key=value` if None.
    """
    spec = Spec(kind, doc, token, key, default, unset, missing, check, role, presence, shown, info)
    metadata = {"spec": spec}
    if default is REQUIRED:
        return dataclasses.field(metadata=metadata)
    if callable(default):
        return dataclasses.field(default=None, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Setting:
    """A config key that is not a field: it shapes the initial parameters.

    Args:
        key: the key.
        kind: what it holds.
        doc: what it means.
        default: its value where it is not given.
        check: a condition on the value.
        unless: a key whose presence replaces this one. A required setting is then not needed;
            any other setting is refused, as it would have no effect.
        hint: of a file, what to do when it cannot be read.
        numbered: there are several, `key1`, `key2` and so on; the value is a dictionary by number.
    """

    key: str
    kind: Kind
    doc: str
    default: Any = None
    check: Check | None = None
    unless: str | None = None
    hint: str | None = None
    numbered: bool = False


@dataclass(frozen=True)
class Old:
    """A token that older versions of nnet3 wrote here; read, and never written.

    Its value goes to the fields `sets`, or nowhere.
    """

    token: str
    kind: Kind
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Repeated:
    """A second place in the file where nnet3 writes field `name`, always."""

    token: str
    kind: Kind
    name: str


@dataclass(frozen=True)
class Mark:
    """A token without a value, always there, such as one that opens a group of fields."""

    token: str


class FieldError(ValueError):
    """A value or a combination of values that is not allowed.

    Args:
        key: the config key (or the attribute) at fault.
        message: what was found and what must hold.
    """

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        self.message = message
        super().__init__(message)
