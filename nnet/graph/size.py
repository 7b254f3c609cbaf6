"""How much memory and time a network asks for, compared with what `nnet.limits` allows."""

from __future__ import annotations

from collections.abc import Iterator
from math import lcm

import numpy as np

from nnet.components.base import Component
from nnet.components.field import Kind
from nnet.graph.dims import node_dim
from nnet.graph.network import ComponentNode, Network, OutputNode
from nnet.limits import (
    COLUMNS_WITHOUT_PARAMETERS,
    LARGEST_DIM,
    LARGEST_REACH,
    LARGEST_WINDOW_PRODUCT,
    above,
)
from nnet.text import syntax
from nnet.text.source import Span, TextError
from nnet.text.syntax import Descriptor
from nnet.text.traverse import parts


def check_size(network: Network) -> None:
    """Raises TextError if rows, all rows of a frame together, or times are beyond the limits.

    The columns of all nodes together may be as many as the network has parameters, and some more:
    so that a small file cannot ask for much.
    """
    _check_columns(network)
    periods = []
    for node in network.nodes.values():
        if isinstance(node, ComponentNode | OutputNode):
            for span, what, frames in _times(node.input):
                if abs(frames) > LARGEST_REACH:
                    raise TextError(span or node.span, above(what, abs(frames), LARGEST_REACH))
                if what == "the period":
                    periods.append(frames)
    windows = [component.window for component in network.components.values()]
    period = lcm(*periods, *(w.modulus for w in windows), *(w.every for w in windows))
    if period > LARGEST_REACH:
        raise TextError(None, above("the network's modulus", period, LARGEST_REACH))
    longest = sorted((len(window.offsets) for window in windows), reverse=True)[:2]
    product = longest[0] * longest[1] if len(longest) == 2 else 0
    if product > LARGEST_WINDOW_PRODUCT:
        raise TextError(
            None, above("the frames of two windows of time", product, LARGEST_WINDOW_PRODUCT)
        )


def _check_columns(network: Network) -> None:
    total = 0
    for node in network.nodes.values():
        dim = node_dim(network, node.name)
        if dim > LARGEST_DIM:
            raise TextError(node.span, above(f"the dim of node '{node.name}'", dim, LARGEST_DIM))
        total += dim
    stored = sum(_numbers(component) for component in network.components.values())
    most = COLUMNS_WITHOUT_PARAMETERS + stored
    if total > most:
        raise TextError(
            None,
            f"the nodes make {total} columns together for every frame, and the components hold "
            f"{stored} numbers",
            expected=f"{most} columns at most",
        )


def _numbers(component: Component) -> int:
    """How many numbers the arrays of a component hold."""
    count = 0
    for name, spec in component.specs().items():
        value = getattr(component, name)
        if spec.kind is Kind.COMPONENTS:
            count += sum(_numbers(inner) for inner in value)
        elif isinstance(value, np.ndarray):
            count += value.size
    return count


def _times(descriptor: Descriptor) -> Iterator[tuple[Span | None, str, int]]:
    """What a descriptor says of time: its place, what it is, and frames."""
    match descriptor:
        case syntax.Offset(_, t, x):
            yield descriptor.span, "the offset", t
            yield descriptor.span, "the offset", x
        case syntax.Round(_, period):
            yield descriptor.span, "the period", period
        case syntax.Switch(sources):
            yield descriptor.span, "the period", len(sources)
        case syntax.ReplaceIndex(_, _, value):
            yield descriptor.span, "the index", value
    for part in parts(descriptor):
        yield from _times(part)
