"""The operators of a network's places, group by group."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnet.converters.onnx.analysis import (
    EXTRACTION,
    MAIN_INPUT,
    POOLING,
    Analysis,
    Group,
    Place,
    computable,
    extracted_span,
    pooled_span,
    rounded_span,
)
from nnet.converters.onnx.components import constant_row, rowwise
from nnet.converters.onnx.graph import Graph
from nnet.converters.onnx.spans import Span
from nnet.converters.onnx.windows import WINDOWED, extract, pool
from nnet.errors import NnetError
from nnet.graph.network import ComponentNode, DimRangeNode, InputNode
from nnet.text import syntax
from nnet.text.syntax import Descriptor


class Emitter:
    """Writes the operators of places, group by group.

    `rows[place]` is a tensor (batch, time, dim) whose times are `analysis.needed[place]`; of a
    place that does not change over time, (batch, 1, dim).
    """

    def __init__(self, analysis: Analysis, graph: Graph) -> None:
        self.analysis = analysis
        self.network = analysis.network
        self.graph = graph
        self.rows: dict[Place, str] = {}

    def compute(self, group: Group) -> None:
        """The rows of the one place of a group that is no loop."""
        (place,) = group.places
        node = self.network.nodes[place[0]]
        if isinstance(node, InputNode):
            self.rows[place] = self._input(node)
        elif place in self.analysis.needed:
            self.rows[place] = self.node_rows(place, self.analysis.needed[place])

    def _input(self, node: InputNode) -> str:
        g = self.graph
        if node.name != MAIN_INPUT:
            return str(g.op("Unsqueeze", node.name, g.integers(1)))
        times = g.times(self.analysis.needed[node.name, 0])
        frames = g.op("Shape", MAIN_INPUT, start=1, end=2)
        last = g.op("Sub", frames, g.integers(1))
        index = g.op("Min", g.op("Max", times, g.integers(0)), last)
        return str(g.op("Gather", MAIN_INPUT, index, axis=1))

    def node_rows(self, place: Place, span: Span) -> str:
        """The rows of a place at the times of a span."""
        name, x = place
        node = self.network.nodes[name]
        if isinstance(node, DimRangeNode):
            source = self.read((node.source, x), span)
            return self.graph.columns(source, node.offset, node.dim)
        assert isinstance(node, ComponentNode)
        component = self.network.components[node.component]
        own, column = component.input_place(x)
        constant = constant_row(component)
        if constant is not None:
            return self.spread(self.graph.constant(constant.reshape(1, 1, -1)), span)
        if component.type_name == "DistributeComponent":
            rows = self.described(node.input, own, span)
            return self.graph.columns(rows, column, component.output_dim)
        if component.type_name in (POOLING, EXTRACTION):
            return self._statistics(component, node.input, own, span)
        if component.type_name in WINDOWED:
            return self._windowed(component, node.input, own, span)
        return rowwise(component, self.described(node.input, own, span), self.graph)

    def _windowed(self, component: Any, source: Descriptor, x: int, span: Span) -> str:
        taken = [
            self.optional(source, x, span.shifted(offset)) for offset in component.window.offsets
        ]
        return WINDOWED[component.type_name](component, taken, self.graph)

    def _statistics(self, component: Any, source: Descriptor, x: int, span: Span) -> str:
        limits = computable(self.analysis, source, x, 0)
        if component.type_name == POOLING:
            stored = pooled_span(component, span, limits)
            return pool(component, self.described(source, x, stored), stored, span, self.graph)
        periods = extracted_span(component, span)
        offsets = component.window.offsets
        taken = [self.optional(source, x, periods.shifted(offset)) for offset in offsets]
        present = [self.graph.present(limits, periods.shifted(offset)) for offset in offsets]
        made = extract(component, taken, present, self.graph)
        return made if periods == span else self._rounded(made, periods, span)

    def _rounded(self, rows: str, stored: Span, span: Span) -> str:
        """Rows stored at multiples of a number, read at times rounded down to them."""
        g = self.graph
        behind = g.op("Sub", g.times(span), g.integers(stored.first))
        index = g.op("Div", behind, g.integers(stored.step))
        return str(g.op("Gather", rows, index, axis=1))

    # Descriptors.

    def read(self, place: Place, span: Span) -> str:
        """The rows of a place at the times of a span."""
        node = self.network.nodes[place[0]]
        if isinstance(node, InputNode) and place[0] != MAIN_INPUT:
            return self.graph.spread(self.rows[place], span)
        return self.graph.take(self.rows[place], self.analysis.needed[place], span)

    def optional(self, descriptor: Descriptor, x: int, span: Span) -> str:
        """The rows of a descriptor, zeros where it cannot be computed."""
        inside = span.within(computable(self.analysis, descriptor, x, 0))
        rows = self.described(descriptor, x, inside)
        return self.graph.take(rows, inside, span)

    def described(self, descriptor: Descriptor, x: int, span: Span) -> str:
        """The rows that a descriptor describes at the times of a span, (batch, time, dim)."""
        g = self.graph

        def part(inner: Descriptor) -> str:
            return self.described(inner, x, span)

        match descriptor:
            case syntax.NodeName(name):
                return self.read((name, x), span)
            case syntax.Offset(source, t, dx):
                return self.described(source, x + dx, span.shifted(t))
            case syntax.ReplaceIndex(source, "x", value):
                return self.described(source, value, span)
            case syntax.ReplaceIndex(source, _, value):
                return self._at(source, x, value, span)
            case syntax.Append(parts):
                return g.append([part(p) for p in parts])
            case syntax.Sum(parts):
                result, *rest = (part(p) for p in parts)
                for other in rest:
                    result = g.op("Add", result, other)
                return result
            case syntax.Scale(factor, source):
                return str(g.op("Mul", part(source), g.numbers(factor)))
            case syntax.Const(value, dim):
                constant = g.constant(np.full((1, 1, dim), value, np.float32))
                return self.spread(constant, span)
            case syntax.IfDefined(source):
                return self.optional(source, x, span)
        return self._chosen(descriptor, x, span)

    def spread(self, rows: str, span: Span) -> str:
        """A constant row for every sequence and all times of a span."""
        g = self.graph
        batch = g.op("Shape", MAIN_INPUT, start=0, end=1)
        shape = g.op("Concat", batch, g.count(span), g.integers(1), axis=0)
        return str(g.op("Expand", rows, shape))

    def _at(self, source: Descriptor, x: int, time: int, span: Span) -> str:
        """The row of one time, for all times of a span."""
        g = self.graph
        if isinstance(source, syntax.NodeName) and source.name != MAIN_INPUT:
            node = self.network.nodes[source.name]
            if isinstance(node, InputNode):
                return g.spread(self.rows[source.name, x], span)
        row = self.described(source, x, Span(time, time))
        return g.spread(g.op("Slice", row, g.integers(0), g.integers(1), g.integers(1)), span)

    def _chosen(self, descriptor: Descriptor, x: int, span: Span) -> str:
        """Descriptors whose source depends on the time."""
        g = self.graph
        match descriptor:
            case syntax.Round(source, modulus):
                limits = computable(self.analysis, source, x, 0)
                stored = rounded_span(span, modulus).within(limits)
                rows = self.described(source, x, stored)
                if stored == span:
                    return rows
                times = g.times(span)
                down = g.op("Sub", times, g.op("Mod", times, g.integers(modulus)))
                behind = g.op("Sub", down, g.integers(stored.first))
                index = g.op("Div", behind, g.integers(stored.step))
                return str(g.op("Gather", rows, index, axis=1))
            case syntax.Failover(first, second):
                limits = computable(self.analysis, first, x, 0)
                there = g.op("Cast", g.present(limits, span), to=9)
                return str(
                    g.op(
                        "Where",
                        there,
                        self.optional(first, x, span),
                        self.described(second, x, span),
                    )
                )
            case syntax.Switch(sources):
                remainder = g.op("Mod", g.times(span), g.integers(len(sources)))
                column = g.op("Unsqueeze", remainder, g.integers(0, 2))
                result = self.described(sources[0], x, span)
                for number, source in enumerate(sources[1:], 1):
                    here = g.op("Equal", column, g.integers(number))
                    result = g.op("Where", here, self.described(source, x, span), result)
                return result
        raise NnetError(f"{type(descriptor).__name__} is known in xconfig files only")
