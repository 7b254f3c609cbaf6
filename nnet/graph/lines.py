"""Nodes as lines of a config file, as model files and info texts hold them."""

from __future__ import annotations

from nnet.graph.canonical import canonical_text
from nnet.graph.dims import descriptor_dim, node_dim
from nnet.graph.network import ComponentNode, DimRangeNode, InputNode, Network, Node


def node_line(network: Network, node: Node, with_dims: bool = False) -> str:
    """The config line of a node, with its dimensions if asked for (as in nnet3-info)."""
    if isinstance(node, InputNode):
        return f"input-node name={node.name} dim={node.dim}"
    if isinstance(node, DimRangeNode):
        return (
            f"dim-range-node name={node.name} input-node={node.source} "
            f"dim-offset={node.offset} dim={node.dim}"
        )
    source = canonical_text(node.input)
    if isinstance(node, ComponentNode):
        line = f"component-node name={node.name} component={node.component} input={source}"
        if with_dims:
            line += f" input-dim={descriptor_dim(network, node.input)}"
            line += f" output-dim={node_dim(network, node.name)}"
        return line
    dims = f" dim={descriptor_dim(network, node.input)}" if with_dims else ""
    return f"output-node name={node.name} input={source}{dims} objective={node.objective}"


def node_lines(network: Network, with_dims: bool = False) -> list[str]:
    """The config lines of all nodes, in order."""
    return [node_line(network, node, with_dims) for node in network.nodes.values()]
