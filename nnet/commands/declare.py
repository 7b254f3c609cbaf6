"""From a function to a command: options come from the dataclasses that the function takes.

A command is a function whose parameters are arguments (`Annotated[str, Argument(...)]`), options
(`Annotated[int, Option(...)]`) and dataclasses whose fields are options (`nnet.options.option`).
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer

from nnet.errors import NnetError
from nnet.options import KEY, Option, Values, spelling

PLAIN = (int, float, str, Path)
"""Types that typer reads by itself; booleans have Kaldi's spelling, see `words.py`."""


@dataclass(frozen=True)
class Declared:
    """An option of a command.

    Attributes:
        name: of the field or parameter.
        kind: its type, without None.
        default: its value where it is not given.
        option: what is said about it.
    """

    name: str
    kind: Any
    default: Any
    option: Option

    @property
    def spellings(self) -> tuple[str, ...]:
        return self.option.names or (spelling(self.name),)

    @property
    def is_boolean(self) -> bool:
        return self.kind is bool

    def parameter(self) -> inspect.Parameter:
        """As typer takes it: None stands for an option that is not given."""
        plain = self.kind if self._is_plain() and self.option.parse is None else str
        kind: Any = list[str] | None if self.option.many else plain | None
        shown = typer.Option(
            *self.spellings,
            help=self._help(),
            metavar=self.option.metavar or ("true|false" if self.is_boolean else None),
            show_default=False,
        )
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind, shown],
        )

    def value(self, text: Any) -> Any:
        """The value of what typer has read."""
        name = self.spellings[0]
        if self.option.parse is not None:
            return self.option.parse(name, text)
        if self.is_boolean:
            return truth(name, text)
        if self.option.many:
            return tuple(text)
        if self.option.least is not None and not text >= self.option.least:
            raise NnetError(f"{name} is {text}, expected at least {self.option.least}")
        return text

    def _is_plain(self) -> bool:
        return self.kind in PLAIN or (isinstance(self.kind, type) and issubclass(self.kind, Enum))

    def _help(self) -> str:
        text, default = self.option.help, self.default
        if text.rstrip(".").endswith("]") or _is_nothing(default):
            return text
        if isinstance(default, Enum):
            default = default.value
        if isinstance(default, tuple):
            default = ",".join(map(str, default))
        shown = "true" if default is True else default
        return f"{text[:-1]} [{shown}]." if text.endswith(".") else f"{text} [{shown}]"


@dataclass(frozen=True)
class Command:
    """A function as typer takes it.

    Attributes:
        run: the function that is called with what typer has read.
        booleans: the spellings of all options that are true or false.
    """

    run: Callable[..., None]
    booleans: frozenset[str]


def command(function: Callable[..., None]) -> Command:
    """The command that a function describes."""
    hints = get_type_hints(function, include_extras=True)
    arguments, options, groups = [], dict[str, Declared](), dict[str, type]()
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            groups[name] = hint
            options |= {found.name: found for found in declared(hint)}
        elif (found := _option_of(name, hint, parameter.default)) is not None:
            options[name] = found
        else:
            arguments.append(parameter.replace(annotation=hint))
    own = [n for n in hints if n in options]

    @functools.wraps(function)
    def run(**read: Any) -> None:
        taken = {name: read[name] for name in options if _is_given(read[name])}
        chosen = {name: options[name].value(text) for name, text in taken.items()}
        values = {n: chosen.get(n, o.default) for n, o in options.items()}
        usual = {
            name: found.option.usual(values)
            for name, found in options.items()
            if name not in chosen and found.option.usual is not None
        }
        values |= usual
        check_applies(options, chosen, values)
        chosen |= usual
        function(
            **{parameter.name: read[parameter.name] for parameter in arguments},
            **{name: values[name] for name in own},
            **{name: made(group, chosen) for name, group in groups.items()},
        )

    parameters = [*arguments, *(found.parameter() for found in options.values())]
    keywords = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    vars(run)["__signature__"] = inspect.Signature(keywords)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    spellings = (s for found in options.values() if found.is_boolean for s in found.spellings)
    return Command(run, frozenset(spellings))


def declared(group: type) -> Iterator[Declared]:
    """The options of a dataclass, and of the dataclasses that are its fields."""
    hints = get_type_hints(group)
    for field in dataclasses.fields(group):
        hint = hints[field.name]
        if KEY in field.metadata:
            yield Declared(field.name, _without_none(hint), field.default, field.metadata[KEY])
        elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from declared(hint)


def made(group: type, chosen: Mapping[str, Any]) -> Any:
    """A dataclass from those of its options that were chosen."""
    hints = get_type_hints(group)
    values = {}
    for field in dataclasses.fields(group):
        hint = hints[field.name]
        if KEY in field.metadata:
            if field.name in chosen:
                values[field.name] = chosen[field.name]
        elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
            values[field.name] = made(hint, chosen)
    return group(**values)


def check_applies(
    options: Mapping[str, Declared], chosen: Sequence[str] | Values, values: Values
) -> None:
    """Raises NnetError if an option was given that has no effect."""
    for name in chosen:
        applies = options[name].option.applies
        if applies is not None and not applies.holds(values):
            raise NnetError(
                f"{options[name].spellings[0]} has no effect here; it applies {applies.when}"
            )


def truth(name: str, text: str) -> bool:
    """A boolean in Kaldi's spelling, `--binary=false`."""
    from nnet.text.values import BadValue, boolean

    try:
        return boolean(text)
    except BadValue as error:
        raise NnetError(f"wrong value '{text}' for '{name}', expected {error}") from None


def _option_of(name: str, hint: Any, default: Any) -> Declared | None:
    """A parameter `Annotated[KIND, Option(...)]`; None if it is an argument."""
    if get_origin(hint) is not Annotated:
        return None
    kind, *notes = get_args(hint)
    options = [note for note in notes if isinstance(note, Option)]
    return Declared(name, _without_none(kind), default, options[0]) if options else None


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        some = [part for part in get_args(kind) if part is not type(None)]
        return some[0] if len(some) == 1 else kind
    return kind


def _is_nothing(default: Any) -> bool:
    """Whether a default need not be told."""
    return default is None or default is False or default == "" or default == ()


def _is_given(read: Any) -> bool:
    return read is not None and read != []
