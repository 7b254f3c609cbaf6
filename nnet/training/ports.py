"""Which nodes of a network the data are for."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from nnet.errors import NnetError
from nnet.graph.dims import node_dim
from nnet.graph.network import ComponentNode, Network, OutputNode
from nnet.text.syntax import NodeName

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ports:
    """The inputs and the output of training. `ivector_dim` is None without an i-vector input;
    `gives_log_probs` says whether the output is a log-softmax."""

    feature_dim: int
    ivector_dim: int | None
    output: str
    output_dim: int
    objective: str
    gives_log_probs: bool = True


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
    outputs = {node.name: node for node in network.outputs()}
    chosen = outputs.get("output") or (next(iter(outputs.values())) if len(outputs) == 1 else None)
    if chosen is None:
        raise NnetError(
            f"the network's outputs are {', '.join(outputs) or 'missing'}; expected: one named "
            "'output', which the targets are for"
        )
    gives_log_probs = _is_log_softmax(network, chosen)
    if chosen.objective == "linear" and not gives_log_probs:
        log.warning(
            "output '%s' has the linear objective but is no log-softmax, so the objective has no "
            "upper bound and training may diverge; use include-log-softmax=true or "
            "objective-type=quadratic",
            chosen.name,
        )
    dim = node_dim(network, chosen.name)
    ivector_dim, objective = inputs.get("ivector"), chosen.objective
    return Ports(inputs["input"], ivector_dim, chosen.name, dim, objective, gives_log_probs)


def _is_log_softmax(network: Network, output: OutputNode) -> bool:
    if not isinstance(output.input, NodeName):
        return False
    node = network.nodes.get(output.input.name)
    if not isinstance(node, ComponentNode):
        return False
    return network.components[node.component].type_name == "LogSoftmaxComponent"
