"""Numbers of columns of nodes and descriptors."""

from __future__ import annotations

from nnet.graph.network import ComponentNode, DimRangeNode, InputNode, Network
from nnet.text import syntax
from nnet.text.source import TextError
from nnet.text.syntax import Descriptor
from nnet.text.traverse import parts
from nnet.text.write import write_descriptor


def node_dim(network: Network, name: str) -> int:
    """Number of columns of a node's output."""
    node = network.nodes[name]
    if isinstance(node, InputNode | DimRangeNode):
        return node.dim
    if isinstance(node, ComponentNode):
        return network.components[node.component].output_dim
    return descriptor_dim(network, node.input)


def descriptor_dim(network: Network, descriptor: Descriptor) -> int:
    """Number of columns that a descriptor describes.

    Raises:
        TextError: two parts that must have the same dimension have different ones.
    """
    if isinstance(descriptor, syntax.NodeName):
        return node_dim(network, descriptor.name)
    if isinstance(descriptor, syntax.Const):
        return descriptor.dim
    inner = parts(descriptor)
    dims = [descriptor_dim(network, part) for part in inner]
    if isinstance(descriptor, syntax.Append):
        return sum(dims)
    for part, dim in zip(inner[1:], dims[1:], strict=True):
        if dim != dims[0]:
            operation = type(descriptor).__name__
            raise TextError(
                part.span or descriptor.span,
                f"{operation} of different dimensions: '{write_descriptor(inner[0])}' has "
                f"{dims[0]}, '{write_descriptor(part)}' has {dim}",
                expected=f"parts of {operation} with the same dimension",
            )
    return dims[0]
