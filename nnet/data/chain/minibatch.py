"""Merged chain examples as tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nnet.data.chain.supervision_graphs import numerator_graphs
from nnet.data.example_minibatch import input_rows
from nnet.data.minibatch import Minibatch
from nnet.errors import NnetError
from nnet.graph.dims import node_dim
from nnet.graph.network import InputNode, Network, OutputNode
from nnet.kernels.chain.numerator import NumeratorGraphs
from nnet.modelfile.chain_examples import XENT, ChainExample, ChainOutput
from nnet.plan.request import AnyTimes, Request, TimeRange


@dataclass(frozen=True, eq=False)
class ChainTargets:
    """What was spoken in the sequences of a minibatch.

    Args:
        graphs: numerator graphs.
        weight: of the supervision.
        sequences: the number of sequences.
        frames: output frames of each.
        deriv_weights: by which derivatives are multiplied, (time, sequences); None if all are 1.
    """

    graphs: NumeratorGraphs
    weight: float
    sequences: int
    frames: int
    deriv_weights: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> ChainTargets:
        """The same with every tensor changed."""
        weights = None if self.deriv_weights is None else change(self.deriv_weights)
        graphs = self.graphs.each(change)
        return ChainTargets(graphs, self.weight, self.sequences, self.frames, weights)


def chain_minibatch(
    example: ChainExample, network: Network, *, with_xent: bool = False
) -> Minibatch:
    """A chain example as tensors.

    Args:
        example: merged or not.
        network: which it is for.
        with_xent: whether outputs are wanted too that are named as the example's with `-xent` at
            the end, where the network has them.

    Raises:
        NnetError: the example has an input or output that the network does not have or with
            another dimension, or its indexes are not regular.
    """
    inputs: dict[str, Tensor] = {}
    given: dict[str, AnyTimes] = {}
    for io in example.inputs:
        node = network.nodes.get(io.name)
        if not isinstance(node, InputNode):
            raise NnetError(f"the examples have '{io.name}', but the network has no such input")
        given[io.name], inputs[io.name] = input_rows(io, node)
    targets: dict[str, ChainTargets] = {}
    wanted: dict[str, AnyTimes] = {}
    for output in example.outputs:
        _check_output(output, network)
        targets[output.name] = chain_targets(output)
        wanted[output.name] = _times(output)
        xent = output.name + XENT
        if with_xent and isinstance(network.nodes.get(xent), OutputNode):
            _check_dim(xent, output.supervision.label_dim, network)
            wanted[xent] = wanted[output.name]
    counts = {len(rows) for rows in inputs.values()} | {t.sequences for t in targets.values()}
    if len(counts) != 1:
        raise NnetError(
            "the inputs and outputs of a chain example have different numbers of sequences: "
            + ", ".join(str(count) for count in sorted(counts))
        )
    return Minibatch(Request.of(given, wanted), inputs, targets, counts.pop())


def _check_output(output: ChainOutput, network: Network) -> None:
    name, dim = output.name, output.supervision.label_dim
    if not isinstance(network.nodes.get(name), OutputNode):
        raise NnetError(f"the examples have supervision for '{name}', but the network has no such "
                        "output")  # fmt: skip
    _check_dim(name, dim, network)


def _check_dim(name: str, dim: int, network: Network) -> None:
    if node_dim(network, name) != dim:
        raise NnetError(
            f"the examples' supervision of '{name}' has {dim} pdfs, the network's output "
            f"{node_dim(network, name)}; make both from the same tree"
        )


def _times(output: ChainOutput) -> TimeRange:
    sequences, frames = output.supervision.sequences, output.supervision.frames
    start = int(output.indexes[0, 1])
    return TimeRange(start, frames, int(output.indexes[sequences, 1]) - start)


def chain_targets(output: ChainOutput) -> ChainTargets:
    """The supervision of one output as tensors."""
    supervision = output.supervision
    sequences, frames = supervision.sequences, supervision.frames
    weights = None
    if len(output.deriv_weights) and (output.deriv_weights != 1.0).any():
        weights = torch.from_numpy(output.deriv_weights).reshape(frames, sequences)
    return ChainTargets(
        numerator_graphs(supervision), supervision.weight, sequences, frames, weights
    )
