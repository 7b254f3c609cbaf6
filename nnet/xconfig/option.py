"""How the options of a layer type are declared.

An option is declared once, as a class attribute of its layer type. From this come its key in
xconfig files (`bottleneck_dim` is `bottleneck-dim`), its conversion, default, check and
documentation; on a layer the attribute is the option's value.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from nnet.text import values
from nnet.text.parse import descriptor_of, settings_of
from nnet.text.source import TextError
from nnet.text.syntax import LayerBack, Setting
from nnet.xconfig.scope import AnyLayer, Input, Scope, Unsettled

T = TypeVar("T")


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Required()


@dataclass(frozen=True)
class Check:
    """A condition on one value; `text` completes the sentence `dim (=-3) must be ...`."""

    text: str
    holds: Callable[[Any], bool]


POSITIVE = Check("positive", lambda value: value > 0)
NOT_NEGATIVE = Check("zero or more", lambda value: value >= 0)
PROPORTION = Check("from 0 to 1", lambda value: 0 <= value <= 1)
NOT_ZERO = Check("positive or negative, not zero", lambda value: value != 0)
BELOW_ONE = Check("at least 0 and below 1", lambda value: 0 <= value < 1)
INSIDE_ONE = Check("above 0 and below 1", lambda value: 0 < value < 1)
SCALE = Check("from -1 to 1", lambda value: -1 <= value <= 1)


class Declared(Generic[T]):
    """A declared option: on the layer type its declaration, on a layer its value."""

    key: str = ""
    doc: str

    def __set_name__(self, owner: type, name: str) -> None:
        self.key = self.key or name.replace("_", "-")

    @overload
    def __get__(self, layer: None, owner: type) -> Declared[T]: ...
    @overload
    def __get__(self, layer: AnyLayer, owner: type) -> T: ...
    def __get__(self, layer: AnyLayer | None, owner: type) -> Declared[T] | T:
        if layer is None:
            return self
        if self.key not in layer.values:
            raise Unsettled
        value: T = layer.values[self.key]
        return value

    def value(self, layer: AnyLayer, setting: Setting | None, scope: Scope) -> T:
        """The option's value on a layer.

        Args:
            layer: the layer, with those of its options that are declared before this one.
            setting: what its line says, or None.
            scope: what stands above the line.

        Raises:
            TextError: a wrong type, a value that fails the check, or a missing required option.
        """
        raise NotImplementedError

    def text(self, value: T) -> str:
        """The value as the expanded xconfig shows it: Kaldi's tool prints Python values."""
        return str(value)

    def accepts(self) -> str:
        """What values the option has, for the documentation."""
        raise NotImplementedError

    def default_text(self) -> str:
        """The default for the documentation."""
        raise NotImplementedError

    def explanation(self) -> str:
        """One line on the option, for errors."""
        default = self.default_text()
        note = default if default == "required" else f"default: {default}"
        return f"{self.key}: {self.doc} ({note})"


class Option(Declared[T]):
    """An option with a plain value.

    Args:
        convert: from text to value.
        default: its value where it is not given, a function from the layer to it, or REQUIRED.
        doc: what it means, with units.
        check: a condition on the value; the default need not meet it.
        unset: a value that means "not given", as Kaldi's tool uses -1.
        key: its key in xconfig files, where that is not the attribute's name.
    """

    def __init__(
        self,
        convert: Callable[[str], T],
        default: T | Callable[[Any], T],
        doc: str,
        *,
        check: Check | None = None,
        unset: T | None = None,
        key: str = "",
    ) -> None:
        self.convert = convert
        self.default = default
        self.doc = doc
        self.check = check
        self.unset = unset
        self.key = key

    def value(self, layer: AnyLayer, setting: Setting | None, scope: Scope) -> T:
        if setting is None:
            return self._default(layer)
        value = values.convert(setting, self.convert, hint=self.explanation())
        if self.unset is not None and value == self.unset:
            return self._default(layer)
        if value != self.default:
            check_value(self, self.check, value, setting)
        return value

    def _default(self, layer: AnyLayer) -> T:
        if self.default is REQUIRED:
            raise TextError(
                layer.line.span,
                f"{layer} has no {self.key}",
                expected=f"{self.key}=...: {self.doc}",
            )
        return self.default(layer) if callable(self.default) else self.default

    def accepts(self) -> str:
        return _accepts(self.convert, self.check)

    def default_text(self) -> str:
        if callable(self.default):
            return str(self.default.__doc__)
        return _spelled(self.default)


class Passed(Declared[str]):
    """An option that goes to the component as it is written, and not at all where it is empty."""

    def __init__(
        self, convert: Callable[[str], object], doc: str, *, check: Check | None = None
    ) -> None:
        self.convert = convert
        self.doc = doc
        self.check = check

    def value(self, layer: AnyLayer, setting: Setting | None, scope: Scope) -> str:
        if setting is None or not setting.value.strip():
            return ""
        value = values.convert(setting, self.convert, hint=self.explanation())
        check_value(self, self.check, value, setting)
        return setting.value.strip()

    def accepts(self) -> str:
        return _accepts(self.convert, self.check)

    def default_text(self) -> str:
        return "the component's own"


@dataclass(frozen=True)
class ComponentSettings:
    """Settings for a component's line, as they are written in quotes in the xconfig."""

    written: str = ""
    settings: tuple[Setting, ...] = ()


class Extra(Declared[ComponentSettings]):
    """An option such as ng-affine-options="update-period=2": settings for a component's line.

    Args:
        doc: what they are for.
        default: the settings where none are given.
    """

    def __init__(self, doc: str, default: str = "") -> None:
        self.doc = doc
        self.default = default

    def value(self, layer: AnyLayer, setting: Setting | None, scope: Scope) -> ComponentSettings:
        if setting is None:
            return _default_settings(self.key, self.default)
        return ComponentSettings(setting.value.strip(), settings_of(setting))

    def text(self, value: ComponentSettings) -> str:
        return value.written

    def accepts(self) -> str:
        return "settings of a component, in quotes"

    def default_text(self) -> str:
        return f'"{self.default.strip()}"' if self.default else "none"


@functools.cache
def _default_settings(key: str, written: str) -> ComponentSettings:
    # In the language of the file, whose grammar is there by now: a second one takes 30 ms to load.
    return ComponentSettings(written, settings_of(Setting(key, written), "xconfig"))


class InputOption(Declared[Input]):
    """An option whose value is a descriptor over the layers above; by default the last of them."""

    def __init__(self, doc: str) -> None:
        self.doc = doc

    def value(self, layer: AnyLayer, setting: Setting | None, scope: Scope) -> Input:
        if setting is None:
            return scope.input("[-1]", LayerBack(1, span=layer.line.word_span))
        return scope.input(setting.value.strip(), descriptor_of(setting, short_forms=True))

    def text(self, value: Input) -> str:
        return value.written

    def accepts(self) -> str:
        return "a descriptor"

    def default_text(self) -> str:
        return "[-1]"


def check_value(
    option: Declared[Any], check: Check | None, value: object, setting: Setting
) -> None:
    """Raises a TextError unless the value meets the check."""
    if check is not None and not check.holds(value):
        raise TextError(
            setting.value_span,
            f"{option.key} (={setting.value}) must be {check.text}",
            hint=option.explanation(),
        )


def _accepts(convert: Callable[[str], object], check: Check | None) -> str:
    words = values.accepted(convert)
    return f"{words}, {check.text}" if check is not None else words


def _spelled(value: object) -> str:
    """A default as people write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
