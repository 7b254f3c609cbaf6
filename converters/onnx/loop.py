"""Recurrent parts of a network as a Scan over time."""

from __future__ import annotations

import numpy as np

from nnet.converters.onnx.analysis import Group, Place, inputs_of, reads
from nnet.converters.onnx.emitter import Emitter
from nnet.converters.onnx.graph import Graph, onnx_module
from nnet.converters.onnx.spans import Span
from nnet.errors import NnetError
from nnet.graph.dims import node_dim
from nnet.text import syntax
from nnet.text.syntax import Descriptor


class Step(Emitter):
    """Writes the operators of one step of a loop.

    What does not feed back is computed before the loop and scanned. The rows of earlier steps are
    in a state (batch, depth, dim) for each place that later steps read; it begins with zeros.
    """

    def __init__(self, outer: Emitter, group: Group) -> None:
        super().__init__(outer.analysis, Graph(outer.graph))
        self.outer = outer
        self.inside = set(group.places)
        self.span = outer.analysis.needed[group.places[0]]
        self.depths = self._depths(group)
        self.states = {place: self.graph.name("state") for place in self.depths}
        self.scanned: dict[str, str] = {}

    def _depths(self, group: Group) -> dict[Place, int]:
        """For the places that later steps read, how many steps later."""
        depths: dict[Place, int] = {}
        for place in group.places:
            for read in inputs_of(self.network, place):
                if read.place in self.inside and read.offset:
                    steps = abs(read.offset) // self.span.step
                    depths[read.place] = max(steps, depths.get(read.place, 0))
        return depths

    def read(self, place: Place, span: Span) -> str:
        g = self.graph
        if place not in self.inside:
            return self._scanned(self.outer.read(place, span))
        steps = abs(span.first - self.span.first) // self.span.step
        if steps == 0:
            return self.rows[place]
        row = self.depths[place] - steps
        limits = g.integers(row), g.integers(row + 1)
        return str(g.op("Slice", self.states[place], *limits, g.integers(1)))

    def _scanned(self, rows: str) -> str:
        """The row of this step of rows that are computed before the loop, (batch, 1, dim)."""
        if rows not in self.scanned:
            self.scanned[rows] = self.graph.name("scanned")
        return str(self.graph.op("Unsqueeze", self.scanned[rows], self.graph.integers(1)))

    def _feeds_back(self, descriptor: Descriptor, x: int) -> bool:
        return any(read.place in self.inside for read in reads(descriptor, x))

    def described(self, descriptor: Descriptor, x: int, span: Span) -> str:
        if not self._feeds_back(descriptor, x):
            return self._scanned(self.outer.described(descriptor, x, span))
        if isinstance(descriptor, syntax.Round | syntax.Switch | syntax.Failover):
            kind = type(descriptor).__name__
            raise NnetError(f"a loop with {kind} cannot be written to ONNX")
        return super().described(descriptor, x, span)

    def optional(self, descriptor: Descriptor, x: int, span: Span) -> str:
        if not self._feeds_back(descriptor, x):
            return self._scanned(self.outer.optional(descriptor, x, span))
        return self.described(descriptor, x, span)


def compute_loop(outer: Emitter, group: Group) -> dict[Place, str]:
    """The rows of a group's places, by a Scan."""
    step = Step(outer, group)
    for place in group.places:
        step.rows[place] = step.node_rows(place, step.span)
    visible = [p for p in group.places if p in _read_outside(outer, group)]
    body = step.graph
    states = list(step.depths)
    next_states = [_pushed(step, place) for place in states]
    made = [body.op("Squeeze", step.rows[place], body.integers(1)) for place in visible]
    helper = onnx_module().helper
    real = onnx_module().TensorProto.FLOAT

    def declared(names: list[str]) -> list[object]:
        return [helper.make_tensor_value_info(name, real, None) for name in names]

    graph = helper.make_graph(
        body.nodes,
        "step",
        declared([step.states[place] for place in states] + list(step.scanned.values())),
        declared(next_states + made),
    )
    results = _scan(outer, group, step, graph, len(visible))
    return dict(zip(visible, results, strict=True))


def _pushed(step: Step, place: Place) -> str:
    """The state after this step: without its first row, with this step's at the end."""
    g, depth = step.graph, step.depths[place]
    if depth == 1:
        return str(g.op("Identity", step.rows[place]))
    kept = g.op("Slice", step.states[place], g.integers(1), g.integers(depth), g.integers(1))
    return str(g.op("Concat", kept, step.rows[place], axis=1))


def _read_outside(outer: Emitter, group: Group) -> set[Place]:
    """The places that others, or the output, read."""
    analysis = outer.analysis
    found = {read.place for read in reads(analysis.output, 0)}
    for other in analysis.groups:
        if other is not group:
            for place in other.places:
                found |= {read.place for read in inputs_of(outer.network, place)}
    return found


def _scan(outer: Emitter, group: Group, step: Step, body: object, visible: int) -> list[str]:
    g = outer.graph
    batch = g.op("Shape", "input", start=0, end=1)
    initial = []
    for place, depth in step.depths.items():
        dim = node_dim(outer.network, place[0])
        shape = g.op("Concat", batch, g.integers(depth, dim), axis=0)
        initial.append(g.op("Expand", g.constant(np.zeros((1, 1, 1), np.float32)), shape))
    scanned = list(step.scanned)
    outputs = g.op(
        "Scan",
        *initial,
        *scanned,
        count=len(initial) + visible,
        body=body,
        num_scan_inputs=len(scanned),
        scan_input_axes=[1] * len(scanned),
        scan_output_axes=[1] * visible,
        scan_input_directions=[int(group.backward)] * len(scanned),
        scan_output_directions=[int(group.backward)] * visible,
    )
    outputs = (outputs,) if isinstance(outputs, str) else outputs
    return list(outputs[len(initial) :])
