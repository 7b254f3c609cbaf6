"""What an xconfig line can refer to: the layers above it, and the nodes of an existing model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from nnet.text import syntax
from nnet.text.source import Span, TextError
from nnet.text.syntax import Descriptor
from nnet.text.traverse import Leaf, leaves, map_leaves
from nnet.text.write import write_descriptor


@dataclass(frozen=True)
class Output:
    """What a layer gives to others: a descriptor of config nodes, and its number of columns."""

    descriptor: Descriptor
    dim: int


@dataclass(frozen=True)
class Input:
    """What a layer reads.

    Attributes:
        written: the descriptor as it stands in the file.
        descriptor: the same with layer names in place of the short forms.
        nodes: the same with config nodes in place of layer names.
        dim: its number of columns.
    """

    written: str
    descriptor: Descriptor
    nodes: Descriptor
    dim: int

    @property
    def text(self) -> str:
        """The descriptor with layer names, as Kaldi's tool prints it."""
        return write_descriptor(self.descriptor, str)


class AnyLayer(Protocol):
    """What a scope and an option need to know of a layer (`nnet.xconfig.layer.Layer`)."""

    line: syntax.Line
    name: str
    values: dict[str, Any]
    sound: bool
    outputs_read: set[str]

    def outputs(self) -> dict[str, Output]: ...


class Unsettled(Exception):
    """Something depends on a layer or an option with a mistake, which has been reported."""


def stop(error: TextError) -> None:
    """What a scope does with a mistake by default: the first one ends the work."""
    raise error


class Scope:
    """The layers above a line, in order.

    Args:
        existing: the nodes of the existing model by name, with their numbers of columns.
        lines: all lines of the xconfig; tells a layer that comes too late from one that is not.
        report: what to do with a mistake; if it returns, the work goes on after the mistake.
    """

    def __init__(
        self,
        existing: Mapping[str, int],
        lines: tuple[syntax.Line, ...],
        report: Callable[[TextError], None] = stop,
    ) -> None:
        self.layers: list[AnyLayer] = []
        self.existing = existing
        self.report = report
        self._by_name: dict[str, AnyLayer] = {}
        self._lines = lines

    def add(self, layer: AnyLayer) -> None:
        self.layers.append(layer)
        self._by_name.setdefault(layer.name, layer)

    def get(self, name: str) -> AnyLayer | None:
        """The layer of that name, if there is one so far."""
        return self._by_name.get(name)

    def input(self, written: str, descriptor: Descriptor) -> Input:
        """What a descriptor in the xconfig means.

        Raises:
            TextError: for a layer that is not above, or parts of different dimensions.
        """
        named = map_leaves(descriptor, self._named)
        self._look_up(leaves(named))
        nodes = map_leaves(named, self._node)
        return Input(written, named, nodes, self._dim(named))

    def _look_up(self, names: Iterable[syntax.NodeName]) -> None:
        """Reports all names that stand for nothing.

        Raises:
            Unsettled: for such a name, or a layer with a mistake.
        """
        settled = True
        for name in names:
            try:
                self.output(name)
            except Unsettled:
                settled = False
            except TextError as error:
                settled = False
                self.report(error)
        if not settled:
            raise Unsettled

    def _named(self, leaf: Leaf) -> Descriptor:
        """A short form written out with the name of its layer."""
        if isinstance(leaf, syntax.LayerBack):
            name = self._layer_back(leaf.back, leaf.span)
            name += f".{leaf.output}" if leaf.output else ""
            return syntax.NodeName(name, span=leaf.span)
        if isinstance(leaf, syntax.BareOffset):
            source = syntax.NodeName(self._layer_back(1, leaf.span), span=leaf.span)
            return syntax.Offset(source, leaf.t, span=leaf.span) if leaf.t else source
        return leaf

    def _node(self, leaf: Leaf) -> Descriptor:
        if isinstance(leaf, syntax.NodeName):
            return replace(self.output(leaf).descriptor, span=leaf.span)
        return leaf

    def _layer_back(self, back: int, span: Span | None) -> str:
        if back <= len(self.layers):
            return self.layers[-back].name
        number = len(self.layers)
        above = f"only {number} of them" if number else "none"
        raise TextError(
            span,
            f"[-{back}] needs {back} layer{'s' * (back > 1)} above this line, and there "
            f"{'are' if number > 1 else 'is'} {above}",
            hint=self._layers_so_far(),
        )

    def output(self, name: syntax.NodeName) -> Output:
        """The output that a name in a descriptor stands for: `layer`, or `layer.auxiliary`."""
        full = name.name
        layer_name, _, auxiliary = full.partition(".")
        if full in self._by_name:
            layer_name, auxiliary = full, ""
        layer = self._by_name.get(layer_name)
        if layer is not None:
            if not layer.sound:
                raise Unsettled
            outputs = layer.outputs()
            if auxiliary in outputs:
                layer.outputs_read.add(auxiliary)
                return outputs[auxiliary]
            if full not in self.existing:
                raise _no_such_output(name, layer, auxiliary, outputs)
        if full in self.existing:
            return Output(syntax.NodeName(full, span=name.span), self.existing[full])
        raise self._no_such_layer(name)

    def _no_such_layer(self, name: syntax.NodeName) -> TextError:
        for line in self._lines:
            setting = line.get("name")
            if setting is not None and setting.value in (name.name, name.name.partition(".")[0]):
                return self._too_early(name, setting.value, line)
        return TextError(
            name.span,
            f"no layer '{name.name}'",
            expected="a layer above this line",
            name=name.name,
            names=(*self._by_name, *self.existing),
            hint=self._layers_so_far(),
        )

    def _too_early(self, name: syntax.NodeName, layer: str, line: syntax.Line) -> TextError:
        number = line.span.line if line.span is not None else 0
        if name.span is not None and name.span.line == number:
            message = f"{line.word} '{layer}' reads itself"
        else:
            message = f"layer '{layer}' comes only in line {number}"
        return TextError(
            name.span, message, expected="a layer above this line", hint=self._layers_so_far()
        )

    def _layers_so_far(self) -> str:
        names = [*filter(None, self._by_name), *self.existing]
        return f"layers so far: {', '.join(names)}" if names else "there is no layer so far"

    def _dim(self, descriptor: Descriptor) -> int:
        match descriptor:
            case syntax.NodeName():
                return self.output(descriptor).dim
            case syntax.Append(parts):
                return sum(self._dim(part) for part in parts)
            case syntax.Const(_, dim):
                return dim
            case syntax.Sum(parts) | syntax.Switch(parts):
                return self._equal_dim(descriptor, parts)
            case syntax.Failover(first, second):
                return self._equal_dim(descriptor, (first, second))
            case (
                syntax.IfDefined(source)
                | syntax.Offset(source)
                | syntax.Round(source)
                | syntax.ReplaceIndex(source)
                | syntax.Scale(source=source)
            ):
                return self._dim(source)
        raise TypeError(f"a short form is left in {descriptor}")

    def _equal_dim(self, whole: Descriptor, parts: tuple[Descriptor, ...]) -> int:
        first, *others = parts
        dim = self._dim(first)
        for part in others:
            if self._dim(part) != dim:
                raise TextError(
                    part.span,
                    f"the parts of {type(whole).__name__} differ in dimension: "
                    f"'{write_descriptor(first, str)}' has {dim}, "
                    f"'{write_descriptor(part, str)}' has {self._dim(part)}",
                    expected="parts of one dimension",
                )
        return dim


def _no_such_output(
    name: syntax.NodeName, layer: AnyLayer, auxiliary: str, outputs: Mapping[str, Output]
) -> TextError:
    others = [f"{layer.name}.{output}" for output in outputs if output]
    instead = " or ".join([layer.name] * ("" in outputs) + others)
    if auxiliary:
        message = f"{layer} has no auxiliary output '{auxiliary}'"
    else:
        message = f"{layer} is an output of the network, which no layer can read"
    return TextError(
        name.span,
        message,
        expected=instead or "another layer",
        name=auxiliary or None,
        names=[output for output in outputs if output],
    )
