"""Which nodes of a network the data are for."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nnet.errors import NnetError
from nnet.graph.dims import node_dim
from nnet.graph.network import ComponentNode, Network, OutputNode
from nnet.text.syntax import NodeName

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ports:
    """The inputs of training and the output that the targets are for. `ivector_dim` is None without
    an i-vector input; `more` are the dimensions of other outputs that have targets."""

    feature_dim: int
    ivector_dim: int | None
    output: str
    output_dim: int
    more: Mapping[str, int] = field(default_factory=dict)


def find_ports(network: Network, outputs: Sequence[str] = ("",)) -> Ports:
    """The nodes `input` and `ivector`, and the outputs that targets are for.

    Args:
        network: has the nodes.
        outputs: names of outputs; '' is `output`.

    Raises:
        NnetError: these are not the nodes of the network.
    """
    inputs = {node.name: node.dim for node in network.inputs()}
    if "input" not in inputs or not set(inputs) <= {"input", "ivector"}:
        raise NnetError(
            f"the network's inputs are {', '.join(inputs) or 'missing'}; expected: 'input' for the "
            "features and perhaps 'ivector'"
        )
    known = [node.name for node in network.outputs()]
    names = [name or "output" for name in outputs]
    for name in ("output", *names):
        if name not in known:
            what = "which the targets are for" if name in names else "as every network of nnet3"
            raise NnetError(
                f"the network's outputs are {', '.join(known) or 'missing'}; expected: one named "
                f"'{name}', {what}"
            )
    if len(set(names)) < len(names):
        raise NnetError(
            "targets are given twice for output 'output', with its name and without; expected: "
            "OUTPUT=RSPECIFIER, with the name of another output"
        )
    dims = {name: node_dim(network, name) for name in names}
    main = "output" if "output" in dims else names[0]
    dim = dims.pop(main)
    return Ports(inputs["input"], inputs.get("ivector"), main, dim, dims)


def main_output(network: Network) -> OutputNode | None:
    """The output `output`, or the only one."""
    outputs = {node.name: node for node in network.outputs()}
    return outputs.get("output") or (next(iter(outputs.values())) if len(outputs) == 1 else None)


def linear_outputs(network: Network, outputs: Iterable[str]) -> list[str]:
    """Those of the outputs that have the linear objective."""
    objectives = {node.name: node.objective for node in network.outputs()}
    return [name for name in outputs if objectives[name] == "linear"]


def warn_of_unbounded_objectives(network: Network, outputs: Iterable[str]) -> None:
    """Logs a warning for each output with the linear objective that is no log-softmax."""
    nodes = {node.name: node for node in network.outputs()}
    for name in linear_outputs(network, outputs):
        if not is_log_softmax(network, nodes[name]):
            log.warning(
                "output '%s' has the linear objective but is no log-softmax, so the objective has "
                "no upper bound and training may diverge; use include-log-softmax=true or "
                "objective-type=quadratic",
                name,
            )


def is_log_softmax(network: Network, output: OutputNode) -> bool:
    """Whether an output comes right from a LogSoftmaxComponent."""
    if not isinstance(output.input, NodeName):
        return False
    node = network.nodes.get(output.input.name)
    if not isinstance(node, ComponentNode):
        return False
    return network.components[node.component].type_name == "LogSoftmaxComponent"
