"""Kaldi's configuration files: one `--name=value` a line, with comments after `#`.

An options class is a dataclass whose fields have the names of Kaldi's options, with `_` for `-`,
and whose types are bool, int, float and str. `OptionsFile` fills them and says which line is wrong.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from nnet.errors import NnetError, nearest
from nnet.text.files import read_text, shown
from nnet.text.values import BadValue, boolean, integer, real

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
LINE = re.compile(r"--(?P<name>[A-Za-z][A-Za-z0-9_.\-]*)(?P<equals>\s*=\s*(?P<value>.*))?")
CONVERSIONS: dict[type, Callable[[str], Any]] = {
    bool: lambda text: True if text == "" else boolean(text),
    int: integer,
    float: real,
    str: str,
}


@dataclass(frozen=True)
class Option:
    """One option as it was written, and where: `FILE:LINE` or `command line`."""

    name: str
    value: str
    place: str


class OptionsFile:
    """The options of a configuration file, handed to the classes that they are meant for.

    Args:
        options: in the order of the file; the last of a name counts, as in Kaldi.
        name: the file, for errors.
    """

    def __init__(self, options: Iterable[Option], name: str) -> None:
        self.name = name
        self._options = {option.name: option for option in options}
        self._known: set[str] = set()
        self._taken: set[str] = set()

    @classmethod
    def read(cls, path: str) -> OptionsFile:
        """Reads a file; `-` is standard input.

        Raises:
            NnetError: it cannot be read, or a line is no option.
        """
        return cls.parse(read_text(path), shown(path))

    @classmethod
    def parse(cls, text: str, name: str) -> OptionsFile:
        """The options in the text of a file."""
        options = []
        for number, line in enumerate(text.splitlines(), 1):
            words = line.partition("#")[0].strip()
            if words:
                options.append(_option(words, f"{name}:{number}"))
        return cls(options, name)

    @classmethod
    def read_words(cls, path: str) -> OptionsFile:
        """Reads a file with several options in a line, such as `splice_opts`."""
        lines = (line.partition("#")[0] for line in read_text(path).splitlines())
        return cls.of_words(" ".join(lines).split(), shown(path))

    @classmethod
    def of_words(cls, words: Iterable[str], name: str) -> OptionsFile:
        """Options as a shell hands them over, such as `--left-context=3`."""
        return cls((_option(word, name) for word in words), name)

    def take(self, options: type[T], prefix: str = "") -> T:
        """The options of one class, its defaults where the file says nothing.

        Args:
            options: a dataclass.
            prefix: of their names in the file, such as `endpoint.`.

        Raises:
            NnetError: a value is not of its field's type, or the class refuses it.
        """
        types = get_type_hints(options)
        values: dict[str, Any] = {}
        for field in dataclasses.fields(options):
            name = prefix + field.name.replace("_", "-")
            self._known.add(name)
            if name in self._options:
                values[field.name] = _convert(self._options[name], types[field.name])
        self._taken.update(prefix + name.replace("_", "-") for name in values)
        try:
            return options(**values)
        except NnetError as error:
            raise NnetError(f"{self.name}: {error}") from None

    def override(self, words: Iterable[str], place: str = "command line") -> None:
        """Options that count instead of those in the file, such as `--allow-upsample=true`."""
        for word in words:
            option = _option(word, place)
            self._options[option.name] = option

    def __contains__(self, name: str) -> bool:
        return name in self._options

    def ignore(self, prefix: str) -> None:
        """Leaves the options of some prefix to others."""
        self._taken.update(name for name in self._options if name.startswith(prefix))

    def finish(self) -> None:
        """Raises NnetError if an option has been taken by no class: its name is wrong."""
        for option in self._options.values():
            if option.name not in self._taken:
                meant = nearest(option.name, self._known)
                hint = f"did you mean '--{meant}'?" if meant else _listed(self._known)
                raise NnetError(f"{option.place}: there is no option '--{option.name}'; {hint}")


def read_options(path: str, options: type[T]) -> T:
    """A file that holds the options of one class and nothing else.

    Raises:
        NnetError: with file and line.
    """
    file = OptionsFile.read(path)
    taken = file.take(options)
    file.finish()
    return taken


def _option(words: str, place: str) -> Option:
    match = LINE.fullmatch(words)
    if not match:
        raise NnetError(f"{place}: found '{words}'; expected: --name=value")
    name = match["name"].lower().replace("_", "-")
    return Option(name, (match["value"] or "").strip(), place)


def _convert(option: Option, kind: type) -> Any:
    try:
        return CONVERSIONS[kind](option.value)
    except BadValue as error:
        raise NnetError(
            f"{option.place}: wrong value '{option.value}' for '--{option.name}'; expected: {error}"
        ) from None


def _listed(names: set[str]) -> str:
    return "options: " + ", ".join(f"--{name}" for name in sorted(names))
