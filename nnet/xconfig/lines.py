"""Making the lines of a config file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nnet.text.source import Span
from nnet.text.syntax import (
    Append,
    Const,
    Descriptor,
    IfDefined,
    Line,
    NodeName,
    Offset,
    Scale,
    Setting,
    Sum,
)
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


class Wiring:
    """Components and nodes of a layer in any order, such as a recurrent layer needs.

    A component `i` and a node `i_t` of the layer `lstm1` are called `lstm1.i` and `lstm1.i_t`.

    Attributes:
        lines: the config lines so far.
    """

    def __init__(self, name: str, span: Span | None) -> None:
        self.lines: list[Line] = []
        self._name = name
        self._span = span

    def __getitem__(self, node: str) -> NodeName:
        """The layer's node of that name, made before or after."""
        return NodeName(f"{self._name}.{node}", span=self._span)

    def component(self, name: str, component_type: str, *groups: Settings) -> None:
        first = {"name": f"{self._name}.{name}", "type": component_type}
        self.lines.append(config_line("component", first, *groups, span=self._span))

    def node(self, name: str, component: str, source: Descriptor) -> NodeName:
        """A node that applies a component of the layer to `source`."""
        values = {"name": f"{self._name}.{name}", "component": f"{self._name}.{component}"}
        line = config_line("component-node", values, {"input": source}, span=self._span)
        self.lines.append(line)
        return self[name]

    def columns(self, name: str, source: NodeName, first: int, dim: int) -> NodeName:
        """A node of columns `first` up to `first + dim` of `source`."""
        values = {"name": f"{self._name}.{name}", "input-node": source.name}
        place = {"dim-offset": first, "dim": dim}
        self.lines.append(config_line("dim-range-node", values, place, span=self._span))
        return self[name]

    def append(self, *parts: Descriptor) -> Descriptor:
        return Append(parts, span=self._span)

    def sum(self, *parts: Descriptor) -> Descriptor:
        return Sum(parts, span=self._span)

    def scale(self, factor: float, source: Descriptor) -> Descriptor:
        return Scale(factor, source, span=self._span)

    def one_minus(self, source: Descriptor, dim: int) -> Descriptor:
        """1 - source, where source has `dim` columns."""
        return self.sum(self.scale(-1.0, source), Const(1.0, dim, span=self._span))

    def earlier(self, source: Descriptor, delay: int) -> Descriptor:
        """`source` as it is at t + delay, zeros where that is outside of the sequence."""
        return IfDefined(Offset(source, delay, span=self._span), span=self._span)
