"""Changing what nodes read, and dropping what nothing needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nnet.graph.check import needed_nodes
from nnet.graph.network import ComponentNode, DimRangeNode, InputNode, Network, Node
from nnet.text import syntax
from nnet.text.syntax import Descriptor
from nnet.text.traverse import Leaf, map_leaves


def with_sources(node: Node, new_name: Callable[[str], str]) -> Node:
    """The node, reading node `new_name(name)` wherever it reads node `name`."""
    if isinstance(node, InputNode):
        return node
    if isinstance(node, DimRangeNode):
        return replace(node, source=new_name(node.source))

    def renamed(leaf: Leaf) -> Descriptor:
        if isinstance(leaf, syntax.NodeName):
            return replace(leaf, name=new_name(leaf.name))
        return leaf

    return replace(node, input=map_leaves(node.input, renamed))


def without_orphan_nodes(network: Network, *, inputs_too: bool = False) -> Network:
    """The network without the nodes that no output needs; inputs stay unless `inputs_too`."""
    needed = needed_nodes(network)
    kept = {
        name: node
        for name, node in network.nodes.items()
        if name in needed or (isinstance(node, InputNode) and not inputs_too)
    }
    return Network(kept, network.components)


def without_orphan_components(network: Network) -> Network:
    """The network without the components that no node uses."""
    nodes = network.nodes.values()
    used = {node.component for node in nodes if isinstance(node, ComponentNode)}
    kept = {name: c for name, c in network.components.items() if name in used}
    return Network(network.nodes, kept)


def without_orphans(network: Network, *, inputs_too: bool = False) -> Network:
    """The network without orphan nodes, then without orphan components."""
    return without_orphan_components(without_orphan_nodes(network, inputs_too=inputs_too))
