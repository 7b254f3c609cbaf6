"""The canonical layout of xconfig files."""

from __future__ import annotations

import re

from nnet.text.parse import parse_xconfig_line
from nnet.text.source import Source, Span
from nnet.text.syntax import Line, Setting
from nnet.text.write import write_line
from nnet.xconfig.checking import physical_lines
from nnet.xconfig.layer import LayerWithInput
from nnet.xconfig.option import InputOption
from nnet.xconfig.registry import layer_types

_FIRST = ("name", "input")


def formatted(text: str, name: str = "<string>") -> str:
    """An xconfig in the canonical layout; it means the same, and comments stay.

    One blank between settings; the name first, then the input, then the rest in the order of the
    layer type's documentation; descriptors without blanks; two blanks in front of a comment
    behind a line; no blank lines at the ends and never two of them together.

    Args:
        text: the xconfig. Its layer types and options need not be right.
        name: what errors call it.

    Raises:
        TextError: a line that is not an xconfig line.
    """
    lines: list[str] = []
    for span in physical_lines(Source(name, text)):
        line = parse_xconfig_line(span)
        written = span.text.strip() if line is None else _with_comment(line, span)
        if written or (lines and lines[-1]):
            lines.append(written)
    return "\n".join(lines).rstrip("\n") + "\n" if any(lines) else ""


def _with_comment(line: Line, span: Span) -> str:
    end = line.span.end if line.span is not None else span.end
    comment = span.source.text[end : span.end].strip()
    return write_line(canonical(line), empty="") + (f"  {comment}" if comment else "")


def canonical(line: Line) -> Line:
    """A line with its settings in canonical order, and its descriptors without blanks."""
    settings = sorted(line.settings, key=lambda setting: _place(line.word, setting.key))
    tight = tuple(_without_blanks(line.word, setting) for setting in settings)
    return Line(line.word, tight, span=line.span)


def _place(layer_type: str, key: str) -> int:
    """Where a key stands in the canonical order; what is not known comes last."""
    if key in _FIRST:
        return _FIRST.index(key)
    cls = layer_types().get(layer_type, LayerWithInput)
    keys = list(cls.options)
    return len(_FIRST) + (keys.index(key) if key in keys else len(keys))


def _without_blanks(layer_type: str, setting: Setting) -> Setting:
    cls = layer_types().get(layer_type, LayerWithInput)
    value = setting.value.strip()
    if isinstance(cls.options.get(setting.key), InputOption):
        value = re.sub(r"\s*([(),@\[\]])\s*", r"\1", value)
    return Setting(setting.key, value, span=setting.span, value_span=setting.value_span)
