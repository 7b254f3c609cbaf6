"""From config lines to a network, by the rules of nnet3's Nnet::ReadConfig."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nnet.components.base import Component
from nnet.components.config import component_from_line
from nnet.components.initial import Initializer, ReadArray
from nnet.graph.check import check_network
from nnet.graph.network import ComponentNode, DimRangeNode, InputNode, Network, Node, OutputNode
from nnet.text.parse import descriptor_of, parse_config
from nnet.text.source import TextError
from nnet.text.syntax import File, Line, Setting
from nnet.text.values import BadValue, convert, integer

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")


def build_network(
    file: File,
    base: Network | None = None,
    *,
    rng: np.random.Generator | None,
    read_matrix: ReadArray | None = None,
    read_vector: ReadArray | None = None,
) -> Network:
    """The network that a config file describes, or `base` with the file's lines added to it.

    Nodes of `base` that the file defines again are dropped, and stand where the file has them;
    components that it defines again are replaced where they are. Within the file a node name and
    a component name occur once. Nodes may refer to later ones.

    Args:
        file: the parsed config file.
        base: a network to add to; it is not changed.
        rng: source of random initial parameters; see `nnet.components.config.Initializer`.
        read_matrix: reads the files of `matrix=`.
        read_vector: reads the files of `vector=`, `scales=` and `bias=`.

    Raises:
        TextError: at the first mistake, see also `nnet.graph.check.check_network`.
    """
    init = Initializer(rng)
    if read_matrix is not None and read_vector is not None:
        init = Initializer(rng, read_matrix, read_vector)
    nodes, components = _parse_lines(file, init)
    old_nodes = dict(base.nodes) if base else {}
    old_components = dict(base.components) if base else {}
    kept = {name: node for name, node in old_nodes.items() if name not in nodes}
    network = Network(nodes=kept | nodes, components=old_components | components)
    check_network(network)
    return network


def parse_nodes(text: str, name: str) -> dict[str, Node]:
    """The nodes of the config lines of a model file, in order.

    Args:
        text: the lines.
        name: what errors call them.
    """
    nodes: dict[str, Node] = {}
    for line in parse_config(text, name).lines:
        if line.word == "component":
            raise TextError(line.span, "a component line in the config lines of a model file")
        _add(nodes, _node(line), line, "node")
    return nodes


def _parse_lines(file: File, init: Initializer) -> tuple[dict[str, Node], dict[str, Component]]:
    nodes: dict[str, Node] = {}
    components: dict[str, Component] = {}
    for line in file.lines:
        if line.word == "component":
            name = _name(line, "component")
            if name not in components:
                components[name] = component_from_line(line, init)
            else:
                _refuse_twice(line, name, "component")
        else:
            _add(nodes, _node(line), line, "node")
    return nodes, components


def _add(nodes: dict[str, Node], node: Node, line: Line, what: str) -> None:
    if node.name in nodes:
        _refuse_twice(line, node.name, what)
    nodes[node.name] = node


def _refuse_twice(line: Line, name: str, what: str) -> None:
    at = line.get("name")
    raise TextError(
        at.value_span if at else line.span,
        f"two {what}s are called '{name}'",
        expected=f"{what} names that occur once in a file",
    )


def _name(line: Line, what: str) -> str:
    setting = _needed(line, "name", f"the {what}'s name")
    if not NAME.fullmatch(setting.value):
        raise TextError(
            setting.value_span,
            f"'{setting.value}' can not be the name of a {what}",
            expected="letters, digits, '_', '-' and '.', beginning with a letter or '_'",
        )
    return setting.value


def _needed(line: Line, key: str, meaning: str) -> Setting:
    setting = line.get(key)
    if setting is None:
        raise TextError(
            line.word_span or line.span,
            f"{line.word} needs '{key}': {meaning}",
            expected=f"{key}=...",
        )
    return setting


@dataclass(frozen=True)
class _NodeKind:
    """The keys of a kind of line, and what makes its node of a line and its name."""

    keys: tuple[str, ...]
    make: Callable[[Line, str], Node]


def _input_node(line: Line, name: str) -> Node:
    dim = convert(_needed(line, "dim", "number of columns"), _dimension)
    return InputNode(name, dim, line.span)


def _component_node(line: Line, name: str) -> Node:
    component = _needed(line, "component", "name of the component that it applies")
    source = _needed(line, "input", "the descriptor of its input")
    return ComponentNode(name, component.value, descriptor_of(source), line.span)


def _dim_range_node(line: Line, name: str) -> Node:
    source = _needed(line, "input-node", "name of the node whose columns it takes")
    offset = convert(_needed(line, "dim-offset", "its first column"), _column)
    dim = convert(_needed(line, "dim", "number of columns"), _dimension)
    return DimRangeNode(name, source.value, offset, dim, line.span)


def _output_node(line: Line, name: str) -> Node:
    source = _needed(line, "input", "the descriptor of its input")
    objective = line.get("objective")
    kind = convert(objective, _objective) if objective else "linear"
    return OutputNode(name, descriptor_of(source), kind, line.span)


_NODES = {
    "input-node": _NodeKind(("name", "dim"), _input_node),
    "component-node": _NodeKind(("name", "component", "input"), _component_node),
    "dim-range-node": _NodeKind(("name", "input-node", "dim-offset", "dim"), _dim_range_node),
    "output-node": _NodeKind(("name", "input", "objective"), _output_node),
}


def _node(line: Line) -> Node:
    kind = _NODES.get(line.word)
    if kind is None:
        words = ("component", *_NODES)
        raise TextError(
            line.word_span,
            f"unknown kind of line '{line.word}'",
            expected=f"one of {', '.join(words)}",
            name=line.word,
            names=words,
        )
    for setting in line.settings:
        if setting.key not in kind.keys:
            raise TextError(
                setting.key_span,
                f"{line.word} has no key '{setting.key}'",
                expected=f"one of {', '.join(kind.keys)}",
                name=setting.key,
                names=kind.keys,
            )
    return kind.make(line, _name(line, "node"))


def _dimension(text: str) -> int:
    value = integer(text)
    if value <= 0:
        raise BadValue("a positive integer")
    return value


def _column(text: str) -> int:
    value = integer(text)
    if value < 0:
        raise BadValue("an integer that is zero or more")
    return value


def _objective(text: str) -> str:
    if text not in ("linear", "quadratic"):
        raise BadValue("linear or quadratic")
    return text
