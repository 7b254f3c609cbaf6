"""Options, declared once: by the dataclass whose code uses them, with what a user is told.

`nnet.commands.declare` makes the options of a command of these declarations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nnet.errors import NnetError

Values = Mapping[str, Any]
"""The values of all options of a command, by the names of their fields or parameters."""

KEY = "option"
"""Of a field's metadata."""


@dataclass(frozen=True)
class Applies:
    """When an option has an effect.

    Attributes:
        when: ends the sentence "it applies ...", as in "it applies with --egs".
        holds: tells from the values of the options.
    """

    when: str
    holds: Callable[[Values], bool]

    def __and__(self, other: Applies) -> Applies:
        return Applies(
            f"{self.when} and {other.when}",
            lambda values: self.holds(values) and other.holds(values),
        )

    def __or__(self, other: Applies) -> Applies:
        return Applies(
            f"{self.when} or {other.when}",
            lambda values: self.holds(values) or other.holds(values),
        )


def given(*names: str) -> Applies:
    """Applies with any of some options, by the names of their fields."""
    spelled = " or ".join(map(spelling, names))
    return Applies(f"with {spelled}", lambda values: any(values.get(name) for name in names))


def missing(name: str) -> Applies:
    """Applies without an option."""
    return Applies(f"without {spelling(name)}", lambda values: not values.get(name))


@dataclass(frozen=True)
class Option:
    """What a command says about an option, and how it reads it.

    Attributes:
        help: a sentence or two; `[...]` at its end is the default, where the field's does not say.
        names: as users write them, if other than the field's.
        metavar: how the value is called.
        parse: makes the value of the option's name and text (of a list of texts, for a tuple of
            them or a mapping).
        many: whether it may be given several times.
        least: the smallest number allowed.
        applies: when it has an effect; None: always.
        usual: its default where that depends on other options.
    """

    help: str
    names: tuple[str, ...] = ()
    metavar: str = ""
    parse: Callable[[str, Any], Any] | None = None
    many: bool = False
    least: float | None = None
    applies: Applies | None = None
    usual: Callable[[Values], Any] | None = None


def option(default: Any, help: str | Option, **more: Any) -> Any:
    """A field of a dataclass that is an option of the commands that take the dataclass.

    Args:
        default: of the field.
        help: see `Option`, as all the others; or an option that others have too.
        more: the other attributes of `Option`.
    """
    told = Option(help, **more) if isinstance(help, str) else dataclasses.replace(help, **more)
    return dataclasses.field(default=default, metadata={KEY: told})


def spelling(name: str) -> str:
    """An option as users write it, from the name of its field."""
    return "--" + name.replace("_", "-")


def frame_counts(name: str, text: str) -> tuple[int, ...]:
    """Numbers of frames such as `150,110,100`.

    Raises:
        NnetError: the text is something else; `name` is the option's.
    """
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise NnetError(
            f"{name} is '{text}'; expected: frames, such as 150 or 150,110,100"
        ) from None
