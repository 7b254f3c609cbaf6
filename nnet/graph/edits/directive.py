"""What a directive is, how its keys are declared, and how it is read from a line.

A directive is a frozen dataclass whose fields, declared by `key`, are its keys.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from typing import Any, ClassVar, TypeVar

from nnet.components.field import single
from nnet.errors import NnetError, nearest
from nnet.graph.network import Network
from nnet.text.source import TextError
from nnet.text.syntax import Line
from nnet.text.values import BadValue, convert, integer, real

D = TypeVar("D", bound=type["Directive"])

log = logging.getLogger("nnet.edits")

_directives: dict[str, type[Directive]] = {}

REQUIRED = dataclasses.MISSING


class Directive(ABC):
    """One edit."""

    word: ClassVar[str]

    @abstractmethod
    def apply(self, network: Network) -> Network:
        """The edited network.

        Raises:
            EditError: the network has no such thing, or the directive does not fit it.
        """


class EditError(NnetError):
    """A directive that does not fit the network.

    Args:
        key: the key at fault.
        message: what is wrong with its value.
        names: the names that its value may have, to find the nearest.
    """

    def __init__(self, key: str, message: str, names: Iterable[str] = ()) -> None:
        self.key = key
        self.names = tuple(names)
        super().__init__(message)


def register(word: str) -> Callable[[D], D]:
    """Class decorator: makes a directive known by its word."""

    def decorate(cls: D) -> D:
        cls.word = word
        _directives[word] = cls
        return cls

    return decorate


def directives() -> dict[str, type[Directive]]:
    """All directives by word."""
    return dict(sorted(_directives.items()))


def key(conversion: Callable[[str], Any], default: Any = REQUIRED) -> Any:
    """Declares a key: how its text becomes a value, and its value where it is not given."""
    return dataclasses.field(default=default, metadata={"conversion": conversion})


def read_directive(line: Line) -> Directive:
    """The directive that a line holds.

    Raises:
        TextError: an unknown word or key, a wrong value, a missing key.
    """
    if line.word not in _directives:
        raise TextError(
            line.word_span,
            f"unknown edit '{line.word}'",
            expected=f"one of {', '.join(directives())}",
            name=line.word,
            names=_directives,
        )
    cls: Any = _directives[line.word]
    fields = {field.name.replace("_", "-"): field for field in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for setting in line.settings:
        if setting.key not in fields:
            raise TextError(
                setting.key_span,
                f"'{line.word}' has no key '{setting.key}'",
                expected=f"one of {', '.join(fields)}" if fields else "no keys",
                name=setting.key,
                names=fields,
            )
        field = fields[setting.key]
        values.setdefault(field.name, convert(setting, field.metadata["conversion"]))
    for name, field in fields.items():
        if field.default is REQUIRED and field.name not in values:
            raise TextError(line.word_span, f"'{line.word}' needs '{name}'", expected=f"{name}=...")
    directive: Directive = cls(**values)
    return directive


def matching(names: Collection[str], pattern: str, what: str) -> list[str]:
    """The names that match a pattern, in order; a warning if there are none.

    Args:
        names: all names there are.
        pattern: in it `*` stands for any characters, and all else for itself.
        what: what the names are names of.
    """
    expression = re.compile(".*".join(map(re.escape, pattern.split("*"))))
    found = [name for name in names if expression.fullmatch(name)]
    if not found:
        meant = nearest(pattern, names)
        hint = f"; did you mean '{meant}'?" if meant else ""
        log.warning("no %s matches '%s'%s", what, pattern, hint)
    return found


def not_negative(text: str) -> float:
    value = single(real(text))
    if value < 0:
        raise BadValue("a number that is zero or more")
    return value


def proportion(text: str) -> float:
    value = single(real(text))
    if not 0 <= value <= 1:
        raise BadValue("a number between 0 and 1")
    return value


def share(text: str) -> float:
    value = real(text)
    if not 0 < value <= 1:
        raise BadValue("a number above 0, at most 1")
    return value


def positive_integer(text: str) -> int:
    value = integer(text)
    if value <= 0:
        raise BadValue("a positive integer")
    return value
