"""Which nodes of a network the data are for."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from nnet.errors import NnetError
from nnet.graph.dims import node_dim
from nnet.graph.network import ComponentNode, Network, OutputNode
from nnet.text.syntax import NodeName

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ports:
    """The inputs of training and the output that the targets are for. `ivector_dim` is None without
    an i-vector input."""

    feature_dim: int
    ivector_dim: int | None
    output: str
    output_dim: int


def find_ports(network: Network) -> Ports:
    """The nodes `input` and `ivector`, and the output `output` (or the only one).

    Raises:
        NnetError: these are not the nodes of the network.
    """
    inputs = {node.name: node.dim for node in network.inputs()}
    if "input" not in inputs or not set(inputs) <= {"input", "ivector"}:
        raise NnetError(
            f"the network's inputs are {', '.join(inputs) or 'missing'}; expected: 'input' for the "
            "features and perhaps 'ivector'"
        )
    chosen = main_output(network)
    if chosen is None:
        names = ", ".join(node.name for node in network.outputs())
        raise NnetError(
            f"the network's outputs are {names or 'missing'}; expected: one named 'output', which "
            "the targets are for"
        )
    dim = node_dim(network, chosen.name)
    return Ports(inputs["input"], inputs.get("ivector"), chosen.name, dim)


def main_output(network: Network) -> OutputNode | None:
    """The output `output`, or the only one."""
    outputs = {node.name: node for node in network.outputs()}
    return outputs.get("output") or (next(iter(outputs.values())) if len(outputs) == 1 else None)


def warn_of_unbounded_objectives(network: Network, outputs: Iterable[str]) -> None:
    """Logs a warning for each output with the linear objective that is no log-softmax."""
    wanted = set(outputs)
    for node in network.outputs():
        if node.name in wanted and node.objective == "linear" and not is_log_softmax(network, node):
            log.warning(
                "output '%s' has the linear objective but is no log-softmax, so the objective has "
                "no upper bound and training may diverge; use include-log-softmax=true or "
                "objective-type=quadratic",
                node.name,
            )


def is_log_softmax(network: Network, output: OutputNode) -> bool:
    """Whether an output comes right from a LogSoftmaxComponent."""
    if not isinstance(output.input, NodeName):
        return False
    node = network.nodes.get(output.input.name)
    if not isinstance(node, ComponentNode):
        return False
    return network.components[node.component].type_name == "LogSoftmaxComponent"
