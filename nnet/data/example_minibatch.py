"""Merged examples as tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nnet.data.minibatch import DenseTargets, SparseTargets, Targets
from nnet.errors import NnetError
from nnet.graph.network import InputNode, Network, OutputNode
from nnet.modelfile.examples import Example, NnetIo
from nnet.modelfile.general_matrix import SparseMatrix
from nnet.plan.request import AnyTimes, Request, TimeList, TimeRange


@dataclass(frozen=True, eq=False)
class ExampleMinibatch:
    """An example for a module: inputs (batch, time, dim) and targets by the names of nodes.

    `sequences` is the batch size, by which nnet3 scales the l2 penalty.
    """

    request: Request
    inputs: dict[str, Tensor]
    targets: dict[str, Targets]
    sequences: int

    def pinned(self) -> ExampleMinibatch:
        """The same in memory that a GPU can fetch by itself."""
        return self._each(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> ExampleMinibatch:
        """The same on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> ExampleMinibatch:
        return ExampleMinibatch(
            self.request,
            {name: change(tensor) for name, tensor in self.inputs.items()},
            {name: targets.each(change) for name, targets in self.targets.items()},
            self.sequences,
        )


def example_minibatch(example: Example, network: Network) -> ExampleMinibatch:
    """An example as tensors.

    Raises:
        NnetError: the example has an input or output that the network does not have or with
            another dimension, or its indexes are not all n by the same increasing times.
    """
    inputs: dict[str, Tensor] = {}
    targets: dict[str, Targets] = {}
    given: dict[str, AnyTimes] = {}
    wanted: dict[str, AnyTimes] = {}
    for io in example.io:
        node = network.nodes.get(io.name)
        times = _times(io)
        if isinstance(node, InputNode):
            if io.features.shape[1] != node.dim:
                raise NnetError(
                    f"the examples' '{io.name}' has dimension {io.features.shape[1]}, the "
                    f"network's {node.dim}"
                )
            rows = io.features.dense().reshape(io.sequences, times.count, -1)
            inputs[io.name] = torch.from_numpy(np.ascontiguousarray(rows))
            given[io.name] = times
        elif isinstance(node, OutputNode):
            targets[io.name] = _targets(io, times.count)
            wanted[io.name] = times
        else:
            raise NnetError(
                f"the examples have '{io.name}', but the network has no such input or output"
            )
    sequences = {io.sequences for io in example.io}
    if not given or not wanted or len(sequences) != 1:
        raise NnetError(
            "an example needs an input and an output with the same number of sequences; found "
            + ", ".join(f"'{io.name}' with {io.sequences}" for io in example.io)
        )
    return ExampleMinibatch(Request.of(given, wanted), inputs, targets, sequences.pop())


def _times(io: NnetIo) -> AnyTimes:
    """The times of each sequence: a range, or where distances differ a list."""
    sequences = io.sequences
    n, t, x = io.indexes.T
    count = len(t) // sequences
    steps = np.diff(t[:count])
    alike = (
        count * sequences == len(t)
        and not x.any()
        and bool((n == np.repeat(np.arange(sequences), count)).all())
        and bool((t.reshape(sequences, count) == t[:count]).all())
        and bool((steps > 0).all())
    )
    if not alike:
        raise NnetError(
            f"the indexes of '{io.name}' in an example are not regular; expected: sequences one "
            "after the other, each with the same increasing times, and x=0"
        )
    if len(set(steps.tolist())) > 1:
        return TimeList(tuple(t[:count].tolist()))
    return TimeRange(int(t[0]), count, int(steps[0]) if count > 1 else 1)


def _targets(io: NnetIo, count: int) -> Targets:
    matrix, sequences = io.features, io.sequences
    if not isinstance(matrix, SparseMatrix):
        values = torch.from_numpy(np.ascontiguousarray(matrix.dense()))
        values = values.reshape(sequences, count, -1)
        return DenseTargets(values, torch.ones(values.shape[:2]))
    pairs = np.diff(matrix.offsets)
    most = max(1, int(pairs.max()))
    ids = np.zeros((len(pairs), most), np.int64)
    weights = np.zeros((len(pairs), most), np.float32)
    used = np.arange(most) < pairs[:, None]
    ids[used], weights[used] = matrix.ids, matrix.weights
    shape = (sequences, count, most)
    return SparseTargets(
        torch.from_numpy(ids).reshape(shape), torch.from_numpy(weights).reshape(shape)
    )
