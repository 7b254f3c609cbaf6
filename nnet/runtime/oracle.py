"""The oracle: a network evaluated by its definition, one index at a time, in float64.

No plan, no passes: each row of each node is asked for when another row needs it, and a component's
reference forward gets exactly the rows that define one of its outputs. Slow, and right.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from nnet.errors import NnetError
from nnet.graph.network import (
    ComponentNode,
    DimRangeNode,
    InputNode,
    Network,
    Node,
    OutputNode,
)
from nnet.modules.base import ComponentModule, WindowModule
from nnet.modules.registry import make_module
from nnet.plan.request import Request
from nnet.plan.times import Times
from nnet.plan.windows import WindowRows
from nnet.text import syntax

Index = tuple[int, int]
"""(t, x); the sequences of the batch are evaluated side by side."""


def interpret(
    network: Network, request: Request, inputs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The outputs that `request` asks for, in test mode.

    Args:
        inputs: by input name, `(batch, time, dim)`, rows at the request's times.

    Returns:
        By output name, `(batch, time, dim)`, float64.

    Raises:
        NnetError: an output is asked for at a time at which it cannot be computed.
    """
    oracle = _Oracle(network, request, inputs)
    with _deep_recursion(), torch.no_grad():
        return {
            name: torch.stack([oracle.output(name, (t, 0)) for t in times], dim=1)
            for name, times in request.outputs
        }


class _Oracle:
    def __init__(self, network: Network, request: Request, inputs: Mapping[str, Tensor]) -> None:
        self.network = network
        self._modules: dict[str, ComponentModule] = {}
        self._rows: dict[tuple[str, Index], Tensor] = {}
        self._computable: dict[tuple[str, Index], bool] = {}
        for name, times in request.inputs:
            for position, t in enumerate(times):
                self._rows[name, (t, 0)] = inputs[name][:, position].double()
                self._computable[name, (t, 0)] = True
        self.batch = next(iter(inputs.values())).shape[0]

    def output(self, name: str, index: Index) -> Tensor:
        node = self.network.nodes[name]
        assert isinstance(node, OutputNode)
        if not self.defined(node.input, index):
            raise NnetError(f"output '{name}' cannot be computed at t = {index[0]}")
        return self.row(node.input, index)

    def module(self, component: str) -> ComponentModule:
        if component not in self._modules:
            module = make_module(self.network.components[component])
            self._modules[component] = module.double().eval()
        return self._modules[component]

    def node_defined(self, name: str, index: Index) -> bool:
        key = (name, index)
        if key not in self._computable:
            self._computable[key] = False  # a row that needs itself is not computable
            self._computable[key] = self._node_defined(self.network.nodes[name], index)
        return self._computable[key]

    def _node_defined(self, node: Node, index: Index) -> bool:
        match node:
            case ComponentNode(component=component, input=descriptor):
                window = self.network.components[component].window
                if index[0] % window.every or not window.offsets:
                    return not window.offsets
                required = self._read(component, index, window.required)
                if not all(self.defined(descriptor, i) for i in required):
                    return False
                if required:
                    return True
                return any(
                    self.defined(descriptor, i)
                    for i in self._read(component, index, window.offsets)
                )
            case DimRangeNode(source=source):
                return self.node_defined(source, index)
        return False

    def _read(self, component: str, index: Index, offsets: Sequence[int]) -> list[Index]:
        """The input rows at some offsets of a component's window."""
        spec = self.network.components[component]
        t = index[0] - index[0] % spec.window.modulus
        x, _ = spec.input_place(index[1])
        return [(t + offset, x) for offset in offsets]

    def node_row(self, name: str, index: Index) -> Tensor:
        key = (name, index)
        if key not in self._rows:
            self._rows[key] = self._node_row(self.network.nodes[name], index)
        return self._rows[key]

    def _node_row(self, node: Node, index: Index) -> Tensor:
        match node:
            case ComponentNode(component=component, input=descriptor):
                return self._component_row(component, descriptor, index)
            case DimRangeNode(source=source, offset=offset, dim=dim):
                return self.node_row(source, index).narrow(-1, offset, dim)
            case InputNode(name=name):
                raise NnetError(f"input '{name}' is not given at t = {index[0]}")
        raise NnetError(f"'{node.name}' is an output node; no other node can read it")

    def _component_row(self, component: str, descriptor: syntax.Descriptor, index: Index) -> Tensor:
        spec = self.network.components[component]
        times = Times(index[0], 1, 1)
        there = [
            i
            for i in self._read(component, index, spec.window.offsets)
            if self.defined(descriptor, i)
        ]
        if spec.type_name == "DistributeComponent":
            _, column = spec.input_place(index[1])
            return self.row(descriptor, there[0]).narrow(-1, column, spec.output_dim)
        module = self.module(component)
        if isinstance(module, WindowModule):
            there.sort()
            stored = Times.of(np.array([t for t, _ in there], dtype=np.int64))
            rows = torch.stack([self.row(descriptor, i) for i in there])
            return module(rows, times, WindowRows(spec.window, stored, times))[0]
        if not there:
            return module(torch.zeros(1, self.batch, 0, dtype=torch.float64), times)[0]
        rows = torch.cat([self.row(descriptor, i) for i in there], dim=-1)
        return module(rows.unsqueeze(0), times)[0]

    def defined(self, descriptor: syntax.Descriptor, index: Index) -> bool:
        match descriptor:
            case syntax.NodeName(name=name):
                return self.node_defined(name, index)
            case syntax.Append(parts=parts) | syntax.Sum(parts=parts):
                return all(self.defined(part, index) for part in parts)
            case syntax.Failover(first=first, second=second):
                return self.defined(first, index) or self.defined(second, index)
            case syntax.IfDefined() | syntax.Const():
                return True
        source, moved = _moved(descriptor, index)
        return self.defined(source, moved)

    def row(self, descriptor: syntax.Descriptor, index: Index) -> Tensor:
        match descriptor:
            case syntax.NodeName(name=name):
                return self.node_row(name, index)
            case syntax.Append(parts=parts):
                return torch.cat([self.row(part, index) for part in parts], dim=-1)
            case syntax.Sum(parts=parts):
                return torch.stack([self.row(part, index) for part in parts]).sum(dim=0)
            case syntax.Failover(first=first, second=second):
                return self.row(first if self.defined(first, index) else second, index)
            case syntax.IfDefined(source=source):
                if self.defined(source, index):
                    return self.row(source, index)
                return torch.zeros(self.batch, self.dim(source), dtype=torch.float64)
            case syntax.Const(value=value, dim=dim):
                return torch.full((self.batch, dim), value, dtype=torch.float64)
            case syntax.Scale(factor=factor, source=source):
                return factor * self.row(source, index)
        source, moved = _moved(descriptor, index)
        return self.row(source, moved)

    def dim(self, descriptor: syntax.Descriptor) -> int:
        match descriptor:
            case syntax.NodeName(name=name):
                match self.network.nodes[name]:
                    case InputNode(dim=dim) | DimRangeNode(dim=dim):
                        return dim
                    case ComponentNode(component=component):
                        return int(self.network.components[component].output_dim)
            case syntax.Append(parts=parts):
                return sum(self.dim(part) for part in parts)
            case syntax.Sum(parts=parts) | syntax.Switch(sources=parts):
                return self.dim(parts[0])
            case syntax.Failover(first=source) | syntax.IfDefined(source=source):
                return self.dim(source)
            case syntax.Offset(source=source) | syntax.Round(source=source):
                return self.dim(source)
            case syntax.ReplaceIndex(source=source) | syntax.Scale(source=source):
                return self.dim(source)
            case syntax.Const(dim=dim):
                return dim
        raise NnetError(f"{type(descriptor).__name__} is known in xconfig files only")


def _moved(descriptor: syntax.Descriptor, index: Index) -> tuple[syntax.Descriptor, Index]:
    """The one descriptor that `descriptor` reads at `index`, and at which index it does."""
    t, x = index
    match descriptor:
        case syntax.Offset(source=source, t=by, x=along):
            return source, (t + by, x + along)
        case syntax.Round(source=source, modulus=modulus):
            return source, (t - t % modulus, x)
        case syntax.ReplaceIndex(source=source, variable="t", value=value):
            return source, (value, x)
        case syntax.ReplaceIndex(source=source, value=value):
            return source, (t, value)
        case syntax.Switch(sources=sources):
            return sources[t % len(sources)], index
        case syntax.Scale(source=source):
            return source, index
    raise NnetError(f"{type(descriptor).__name__} is known in xconfig files only")


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """Rows depend on rows as deep as the network is deep and the utterance long."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
