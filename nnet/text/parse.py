"""Text to syntax: config files, xconfig files, descriptors, and settings inside quotes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal

from nnet.arguments import check_argument
from nnet.text import syntax
from nnet.text.builder import Builder
from nnet.text.diagnose import check_nesting, syntax_error
from nnet.text.files import read_text, shown
from nnet.text.source import Source, Span, TextError

if TYPE_CHECKING:
    from lark import Lark

Language = Literal["config", "xconfig"]

_builder = Builder()


def parse_config(text: str, name: str = "<string>") -> syntax.File:
    """The lines of a config file.

    As in nnet3 a key may occur twice in a line, and the first one counts.

    Args:
        text: the file's content.
        name: what errors call the file.

    Raises:
        TextError: at the first place that is not a config file.
    """
    return _parse_file("config", text, name)


def parse_xconfig(text: str, name: str = "<string>") -> syntax.File:
    """The lines of an xconfig file; see `parse_config`. A key occurs once in a line."""
    file = _parse_file("xconfig", text, name)
    for line in file.lines:
        _refuse_equal_keys(line)
    return file


def parse_xconfig_line(span: Span) -> syntax.Line | None:
    """One line of an xconfig file; None where it is blank or only a comment.

    Args:
        span: the line's place in the file, without its line break.

    Raises:
        TextError: at the first place that is not an xconfig line.
    """
    lines: tuple[syntax.Line, ...] = _parse("xconfig", "file", span)
    for line in lines:
        _refuse_equal_keys(line)
    return lines[0] if lines else None


def _refuse_equal_keys(line: syntax.Line) -> None:
    seen: set[str] = set()
    for setting in line.settings:
        if setting.key in seen:
            raise TextError(
                setting.key_span,
                f"'{setting.key}' is given twice",
                expected=f"one '{setting.key}=' in a line",
            )
        seen.add(setting.key)


def read_config(path: str) -> syntax.File:
    """The lines of a config file on disk, or of standard input for `-`; see `parse_config`."""
    return parse_config(read_text(path), shown(path))


def read_xconfig(path: str) -> syntax.File:
    """The lines of an xconfig file on disk, or of standard input for `-`; see `parse_xconfig`."""
    return parse_xconfig(read_text(path), shown(path))


def parse_descriptor(
    text: str, *, span: Span | None = None, short_forms: bool = False
) -> syntax.Descriptor:
    """A descriptor such as `Append(Offset(input, -2), input)`.

    Args:
        text: the descriptor.
        span: where `text` stands in the user's file, for spans and errors.
        short_forms: whether xconfig's `[-1]`, `-3` and `layer@-3` are allowed.

    Raises:
        TextError: if it is not a descriptor, or is nested more than 100 deep.
    """
    place = span if span is not None else _whole(text, "<descriptor>")
    check_nesting(place)
    result: syntax.Descriptor = _parse("xconfig" if short_forms else "config", "descriptor", place)
    return result


def descriptor_of(setting: syntax.Setting, *, short_forms: bool = False) -> syntax.Descriptor:
    """The descriptor that is the value of `setting`, with spans in the setting's source."""
    if setting.descriptor is not None:
        return setting.descriptor
    return parse_descriptor(setting.value, span=_place(setting), short_forms=short_forms)


def settings_of(
    setting: syntax.Setting, language: Language = "config"
) -> tuple[syntax.Setting, ...]:
    """The settings inside a quoted value, as in `component1="type=TanhComponent dim=8"`."""
    settings: tuple[syntax.Setting, ...] = _parse(language, "settings", _place(setting))
    return settings


def _whole(text: str, name: str) -> Span:
    check_argument(text, str, name, "a text; Path(file).read_text() is a file's")
    return Span(Source(name, text), 0, len(text))


def _place(setting: syntax.Setting) -> Span:
    """Where the setting's value stands; a text of its own for values made by a program."""
    span = setting.value_span
    if span is not None and span.text == setting.value:
        return span
    return _whole(setting.value, f"<{setting.key}>")


def _parse_file(language: Language, text: str, name: str) -> syntax.File:
    span = _whole(text, name)
    return syntax.File(span.source, _parse(language, "file", span))


def _parse(language: Language, start: str, span: Span) -> Any:
    from lark import TextSlice, UnexpectedInput

    _builder.source = span.source
    try:
        piece = TextSlice(span.source.text, span.start, span.end)
        return _grammar(language).parse(piece, start=start)
    except UnexpectedInput as error:
        raise syntax_error(error, span, start, language) from None


@functools.cache
def _grammar(language: Language) -> Lark:
    from lark import Lark

    return Lark.open(
        f"{language}.lark",
        rel_to=__file__,
        parser="lalr",
        start=["file", "settings", "descriptor"],
        transformer=_builder,
    )
