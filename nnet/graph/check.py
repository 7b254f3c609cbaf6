"""What must hold in a network: names, dimensions, inputs and outputs, cycles."""

from __future__ import annotations

import numpy as np

from nnet.components.base import Component
from nnet.components.field import Kind
from nnet.errors import NnetError
from nnet.graph.cycles import check_cycles
from nnet.graph.dims import descriptor_dim, node_dim
from nnet.graph.network import ComponentNode, DimRangeNode, InputNode, Network, Node, OutputNode
from nnet.graph.size import check_size
from nnet.text.source import Span, TextError
from nnet.text.traverse import leaves
from nnet.text.write import write_descriptor


def check_network(network: Network) -> None:
    """Raises TextError at the first thing that is wrong with a network.

    The error points at the text that a node came from, where there is one.
    """
    for node in network.nodes.values():
        _check_names(network, node)
    for node in network.nodes.values():
        _check_dims(network, node)
    check_size(network)
    _check_ends(network)
    check_cycles(network)


def check_finite(network: Network) -> None:
    """Raises NnetError if a parameter or a number stored with a component is NaN or infinite."""
    for name, component in network.components.items():
        _check_numbers(component, name)


def _check_numbers(component: Component, name: str) -> None:
    for field, spec in component.specs().items():
        value = getattr(component, field)
        if spec.kind is Kind.COMPONENTS:
            for number, inner in enumerate(value, start=1):
                _check_numbers(inner, f"{name} (component{number})")
        elif isinstance(value, float | np.ndarray) and not np.isfinite(value).all():
            array = np.asarray(value)
            first = np.argwhere(~np.isfinite(array))[0].tolist()
            place = f"[{', '.join(map(str, first))}]" if first else ""
            count = int((~np.isfinite(array)).sum())
            raise NnetError(
                f"component '{name}' ({component.type_name}): {field.replace('_', '-')}{place} is "
                f"{array[tuple(first)]}, one of {count} numbers that are not finite; training "
                "diverged or the file is damaged: take an earlier model"
            )


def orphans(network: Network) -> list[str]:
    """Warnings about components and nodes that no output needs."""
    used = {n.component for n in network.nodes.values() if isinstance(n, ComponentNode)}
    warnings = [f"component '{c}' is used by no node" for c in network.components if c not in used]
    needed = needed_nodes(network)
    warnings += [f"node '{n}' is needed by no output" for n in network.nodes if n not in needed]
    return warnings


def needed_nodes(network: Network) -> set[str]:
    """The names of the nodes that outputs need, themselves included."""
    needed: set[str] = set()
    waiting = [node.name for node in network.outputs()]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(sources(network.nodes[name]))
    return needed


def sources(node: Node) -> list[str]:
    """The names of the nodes that a node reads."""
    if isinstance(node, InputNode):
        return []
    if isinstance(node, DimRangeNode):
        return [node.source]
    return [leaf.name for leaf in leaves(node.input)]


def _check_names(network: Network, node: Node) -> None:
    if isinstance(node, InputNode):
        return
    if isinstance(node, DimRangeNode):
        _check_source(network, node.source, node.span, node)
        if isinstance(network.nodes[node.source], DimRangeNode):
            raise TextError(
                node.span,
                f"dim-range-node '{node.name}' takes columns of dim-range-node '{node.source}'",
                expected="the name of an input-node or a component-node",
            )
        return
    for leaf in leaves(node.input):
        _check_source(network, leaf.name, leaf.span or node.span, node)
    if isinstance(node, ComponentNode):
        if node.component not in network.components:
            raise TextError(
                node.span,
                f"component-node '{node.name}' uses the undefined component '{node.component}'",
                expected="the name of a component",
                name=node.component,
                names=network.components,
            )
        if f"{node.name}_input" in network.nodes:
            raise TextError(
                network.nodes[f"{node.name}_input"].span,
                f"the name '{node.name}_input' is taken: nnet3 gives it to the input of "
                f"component-node '{node.name}'",
                hint="choose another name",
            )


def _check_source(network: Network, name: str, span: Span | None, node: Node) -> None:
    if name not in network.nodes:
        usable = [n for n, other in network.nodes.items() if not isinstance(other, OutputNode)]
        raise TextError(
            span,
            f"node '{node.name}' reads the undefined node '{name}'",
            expected="the name of an input-node, component-node or dim-range-node",
            name=name,
            names=usable,
        )
    if isinstance(network.nodes[name], OutputNode):
        raise TextError(
            span,
            f"node '{node.name}' reads the output-node '{name}'",
            expected="the name of an input-node, component-node or dim-range-node",
            hint=f"read what '{name}' reads",
        )


def _check_dims(network: Network, node: Node) -> None:
    if isinstance(node, DimRangeNode):
        dim = node_dim(network, node.source)
        if node.dim <= 0 or node.offset < 0 or node.offset + node.dim > dim:
            raise TextError(
                node.span,
                f"dim-range-node '{node.name}' takes columns {node.offset} to "
                f"{node.offset + node.dim - 1} of node '{node.source}', which has {dim}",
                expected=f"dim-offset + dim of {dim} at most",
            )
    elif not isinstance(node, InputNode):
        dim = descriptor_dim(network, node.input)
        if isinstance(node, ComponentNode):
            component = network.components[node.component]
            if dim != component.input_dim:
                raise TextError(
                    node.input.span or node.span,
                    f"dimension mismatch at component-node '{node.name}': its input "
                    f"'{write_descriptor(node.input)}' has dimension {dim}, component "
                    f"'{node.component}' ({component.type_name}) reads {component.input_dim}",
                )


def _check_ends(network: Network) -> None:
    if not any(network.inputs()):
        raise TextError(None, "the network has no input-node", expected="at least one")
    if not any(network.outputs()):
        raise TextError(None, "the network has no output-node", expected="at least one")
