"""Making the lines of a config file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nnet.text.source import Span
from nnet.text.syntax import Descriptor, Line, NodeName, Setting
from nnet.text.write import write_descriptor

Settings = Mapping[str, object] | Iterable[Setting]


def config_line(word: str, *groups: Settings, span: Span | None) -> Line:
    """A line of a config file.

    Args:
        word: its first word.
        groups: its settings in order; a Mapping goes from keys to values.
        span: the xconfig line that it comes from.
    """
    settings: list[Setting] = []
    for group in groups:
        if isinstance(group, Mapping):
            settings += (_setting(key, value, span) for key, value in group.items())
        else:
            settings += group
    return Line(word, tuple(settings), span=span, word_span=span)


def _setting(key: str, value: object, span: Span | None) -> Setting:
    """A setting with Kaldi's spelling of the value: `true`, `1e-05`, `Offset(tdnn1, -3)`."""
    if isinstance(value, Descriptor):
        text = write_descriptor(value, str)
        place = value.span or span
        return Setting(key, text, descriptor=value, span=span, key_span=span, value_span=place)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return Setting(key, text, span=span, key_span=span, value_span=span)


class Chain:
    """Components one after another, each reading the one before.

    Attributes:
        end: what the next component reads.
        lines: the config lines so far, `component` and `component-node` for each component.
    """

    def __init__(self, start: Descriptor, span: Span | None) -> None:
        self.end = start
        self.lines: list[Line] = []
        self._span = span

    def add(self, name: str, component_type: str, *groups: Settings) -> None:
        """One more component, and a node of the same name."""
        first = {"name": name, "type": component_type}
        node = {"name": name, "component": name, "input": self.end}
        self.lines.append(config_line("component", first, *groups, span=self._span))
        self.lines.append(config_line("component-node", node, span=self._span))
        self.end = NodeName(name, span=self._span)
