"""All mistakes of an xconfig at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from nnet.text.parse import parse_xconfig_line
from nnet.text.source import Source, Span, TextError
from nnet.text.syntax import File, Line, Setting
from nnet.xconfig.expansion import assembled, make_layer, refuse_missing_input
from nnet.xconfig.layer import Layer
from nnet.xconfig.scope import Scope

_NAME = re.compile(r"(?<!\S)name=([A-Za-z_][A-Za-z0-9_.\-]*)")


class Damaged(Layer):
    """A line that makes no layer; others may still refer to its name."""

    def __init__(self, line: Line) -> None:
        name = line.get("name")
        self.line = line
        self.name = name.value if name is not None else ""
        self.sound = False


def mistakes(
    text: str, name: str = "<string>", existing_dims: Mapping[str, int] | None = None
) -> list[TextError]:
    """The mistakes of an xconfig in the order of their places; none if it can be expanded.

    What only follows from another mistake is not listed: a layer that reads one with a mistake,
    a dimension that cannot be known.

    Args:
        text: the xconfig.
        name: what errors call it, such as its file name.
        existing_dims: see `nnet.xconfig.expand`.
    """
    found: list[TextError] = []
    existing = existing_dims or {}
    source = Source(name, text)
    parsed = list(_parsed(source, found))
    lines = tuple(line for line, _ in parsed)
    scope = Scope(existing, lines, found.append)
    layers: list[Layer] = []
    for line, readable in parsed:
        layers.append(_layer(line, scope) if readable else Damaged(line))
        scope.add(layers[-1])
    try:
        refuse_missing_input(File(source, lines), existing)
        if all(layer.sound for layer in layers):
            assembled(source, tuple(layers))
    except TextError as error:
        found.append(error)
    return sorted(found, key=lambda error: error.span.start if error.span else -1)


def physical_lines(source: Source) -> Iterator[Span]:
    """The lines of a text, blank ones too, without their line breaks."""
    start = 0
    for line in source.text.split("\n"):
        yield Span(source, start, start + len(line))
        start += len(line) + 1


def _parsed(source: Source, found: list[TextError]) -> Iterator[tuple[Line, bool]]:
    """The lines, and whether each can be read."""
    for span in physical_lines(source):
        try:
            line = parse_xconfig_line(span)
        except TextError as error:
            found.append(error)
            yield _damaged_line(span), False
        else:
            if line is not None:
                yield line, True


def _damaged_line(span: Span) -> Line:
    """What can be known of a line that does not parse: its first word and its name."""
    name = _NAME.search(span.text)
    settings = (Setting("name", name.group(1)),) if name else ()
    words = span.text.split()
    return Line(words[0], settings, span=span, word_span=span)


def _layer(line: Line, scope: Scope) -> Layer:
    try:
        return make_layer(line, scope)
    except TextError as error:
        scope.report(error)
        return Damaged(line)
