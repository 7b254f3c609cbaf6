"""From a `component` line of a config file to a component with initial parameters."""

from __future__ import annotations

from typing import Any

from nnet.components.base import Component
from nnet.components.field import (
    CONVERSIONS,
    REQUIRED,
    Check,
    FieldError,
    Kind,
    Setting,
    Spec,
    largest_integer,
)
from nnet.components.initial import Given, Initializer
from nnet.components.registry import component_types
from nnet.errors import NnetError
from nnet.limits import LARGEST_SETTING, above
from nnet.text.parse import settings_of
from nnet.text.source import Span, TextError
from nnet.text.syntax import Line
from nnet.text.syntax import Setting as TextSetting
from nnet.text.values import convert


def component_from_line(line: Line, init: Initializer) -> Component:
    """The component that a line `component name=... type=...` describes.

    Raises:
        TextError: unknown type or key, wrong, missing or contradictory values.
    """
    return create_component(_component_class(line), line, init)


def create_component(cls: type[Component], line: Line, init: Initializer) -> Component:
    """The component of type `cls` that the keys of a line describe; see `component_from_line`."""
    given = _converted(cls, line, init)
    try:
        component = cls.create(given, init)
        component.check()
    except FieldError as error:
        at = line.get(error.key)
        raise TextError(
            at.value_span if at else line.span, f"{cls.type_name}: {error.message}"
        ) from None
    except NnetError as error:  # of a matrix or vector file
        files = (setting for setting in cls.settings if setting.kind is Kind.TEXT)
        file = next((setting for setting in files if line.get(setting.key)), None)
        at = line.get(file.key) if file else None
        raise TextError(
            at.value_span if at else line.span, str(error), hint=file.hint if file else None
        ) from None
    return component


def _component_class(line: Line) -> type[Component]:
    setting = line.get("type")
    if setting is None:
        raise TextError(
            line.span,
            "this component has no type",
            expected="type=<type>, such as type=NoOpComponent",
        )
    types = component_types()
    if setting.value not in types:
        raise TextError(
            setting.value_span,
            f"unknown component type '{setting.value}'",
            expected=f"one of {', '.join(types)}",
            name=setting.value,
            names=types,
        )
    return types[setting.value]


def _converted(cls: type[Component], line: Line, init: Initializer) -> Given:
    specs = {spec.key: (name, spec) for name, spec in cls.specs().items() if spec.key}
    settings = {setting.key: setting for setting in cls.settings}
    given = Given(settings={key: setting.default for key, setting in settings.items()})
    seen = {"name", "type"}
    for text in line.settings:
        if text.key in seen:
            continue
        seen.add(text.key)
        if text.key in specs:
            name, spec = specs[text.key]
            value = _value(text, spec)
            if spec.unset is None or value != spec.unset:
                _test(text, value, spec.check)
                given.fields[name] = value
        elif text.key in settings:
            setting = settings[text.key]
            _refuse_without_effect(line, text, setting)
            value = _value(text, setting)
            _test(text, value, setting.check)
            given.settings[text.key] = value
        elif (base := text.key.rstrip("0123456789")) in settings and settings[base].numbered:
            numbered = given.settings[base] or {}
            numbered[int(text.key[len(base) :])] = _nested(text, init)
            given.settings[base] = numbered
        else:
            _unknown(cls, text, (*settings, *specs))
    for key, (_, spec) in specs.items():
        if spec.default is REQUIRED and line.get(key) is None:
            _missing(cls, line, key, spec, None)
    for key, setting in settings.items():
        given_otherwise = setting.unless is not None and line.get(setting.unless) is not None
        if setting.default is REQUIRED and line.get(key) is None and not given_otherwise:
            _missing(cls, line, key, setting, setting.unless)
    return given


def _nested(text: TextSetting, init: Initializer) -> Component:
    """The component of a quoted value, as in `component1="type=TanhComponent dim=8"`."""
    return component_from_line(Line("", settings_of(text), span=text.value_span), init)


def _value(text: TextSetting, declared: Spec | Setting) -> Any:
    value = convert(text, CONVERSIONS[declared.kind])
    largest = largest_integer(declared.kind, value)
    if largest > LARGEST_SETTING:
        raise TextError(text.value_span, above(text.key, largest, LARGEST_SETTING))
    return value


def _test(text: TextSetting, value: Any, check: Check | None) -> None:
    if check is not None and not check.holds(value):
        raise TextError(text.value_span, f"{text.key} (={text.value}) must be {check.text}")


def _refuse_without_effect(line: Line, text: TextSetting, setting: Setting) -> None:
    if setting.unless is None or setting.default is REQUIRED:
        return
    if line.get(setting.unless) is not None:
        raise TextError(
            text.span,
            f"'{text.key}' has no effect together with '{setting.unless}'",
            hint=f"remove '{text.key}' or '{setting.unless}'",
        )


def _unknown(cls: type[Component], text: TextSetting, keys: tuple[str, ...]) -> None:
    raise TextError(
        text.key_span,
        f"{cls.type_name} has no key '{text.key}'",
        expected=f"one of {', '.join(keys)}" if keys else "no further keys",
        name=text.key,
        names=keys,
    )


def _missing(
    cls: type[Component], line: Line, key: str, declared: Spec | Setting, unless: str | None
) -> None:
    span: Span | None = line.word_span or line.span
    example = {Kind.INTEGER: "<integer>", Kind.REAL: "<number>"}.get(declared.kind, "<value>")
    other = f" (or '{unless}')" if unless else ""
    raise TextError(
        span,
        f"{cls.type_name} needs '{key}'{other}: {declared.doc}",
        expected=f"{key}={example}" + (f" or {unless}=<file>" if unless else ""),
    )
