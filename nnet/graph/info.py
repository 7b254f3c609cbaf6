"""The texts of nnet3-info and nnet3-am-info."""

from __future__ import annotations

import numpy as np

from nnet.components.summary import general
from nnet.graph.context import context, is_simple, modulus
from nnet.graph.dims import node_dim
from nnet.graph.lines import node_lines
from nnet.graph.network import InputNode, Network, OutputNode


def network_info(network: Network) -> str:
    """What nnet3-info prints about a raw network: context, size, nodes, components."""
    lines = []
    if is_simple(network):
        left, right = context(network)
        lines += [f"left-context: {left}", f"right-context: {right}"]
    total = sum(component.num_parameters for component in network.components.values())
    lines += [f"num-parameters: {total}", f"modulus: {modulus(network)}"]
    lines += node_lines(network, with_dims=True)
    for name, component in network.components.items():
        lines.append(f"component name={name} type={component.info()}")
    return "".join(f"{line}\n" for line in lines)


def acoustic_model_info(network: Network, priors: np.ndarray | None) -> str:
    """What nnet3-am-info prints about an acoustic model.

    Args:
        network: its network.
        priors: the priors of the pdfs (num_pdfs,), or None.
    """
    lines = [
        f"input-dim: {_dim(network, 'input', InputNode)}",
        f"ivector-dim: {_dim(network, 'ivector', InputNode)}",
        f"num-pdfs: {_dim(network, 'output', OutputNode)}",
        f"prior-dimension: {0 if priors is None else priors.size}",
    ]
    if priors is not None and priors.size:
        values = priors.astype(np.float64)
        lines.append(f"prior-sum: {general(values.sum())}")
        lines.append(f"prior-min: {general(values.min())}")
        lines.append(f"prior-max: {general(values.max())}")
    lines.append("# Nnet info follows.")
    return "".join(f"{line}\n" for line in lines) + network_info(network)


def _dim(network: Network, name: str, kind: type[InputNode] | type[OutputNode]) -> int:
    """A node's dimension, or -1 if there is none of that name and kind."""
    return node_dim(network, name) if isinstance(network.nodes.get(name), kind) else -1
