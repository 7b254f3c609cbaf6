"""Merged examples as tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nnet.data.minibatch import DenseTargets, Minibatch, SparseTargets, Targets
from nnet.errors import NnetError
from nnet.graph.dims import node_dim
from nnet.graph.network import InputNode, Network, OutputNode
from nnet.modelfile.examples import Example, NnetIo
from nnet.modelfile.general_matrix import SparseMatrix
from nnet.plan.request import AnyTimes, Request, TimeList, TimeRange


def example_minibatch(example: Example, network: Network) -> Minibatch:
    """An example as tensors; targets for every output that it has.

    Raises:
        NnetError: the example has an input or output that the network does not have or with
            another dimension (as in Kaldi, of sparse targets too), or its indexes are not all n by
            the same increasing times.
    """
    inputs: dict[str, Tensor] = {}
    targets: dict[str, Targets] = {}
    given: dict[str, AnyTimes] = {}
    wanted: dict[str, AnyTimes] = {}
    for io in example.io:
        node = network.nodes.get(io.name)
        if isinstance(node, InputNode):
            given[io.name], inputs[io.name] = input_rows(io, node)
        elif isinstance(node, OutputNode):
            _check_dim(io, node_dim(network, io.name))
            wanted[io.name] = _times(io)
            targets[io.name] = _targets(io, wanted[io.name].count)
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
    return Minibatch(Request.of(given, wanted), inputs, targets, sequences.pop())


def input_rows(io: NnetIo, node: InputNode) -> tuple[AnyTimes, Tensor]:
    """The times of an input, and its rows (batch, time, dim).

    Raises:
        NnetError: its dimension is another than the node's, or its indexes are not regular.
    """
    times = _times(io)
    if io.features.shape[1] != node.dim:
        raise NnetError(
            f"the examples' '{io.name}' has dimension {io.features.shape[1]}, the network's "
            f"{node.dim}"
        )
    rows = io.features.dense().reshape(io.sequences, times.count, -1)
    return times, torch.from_numpy(np.ascontiguousarray(rows))


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


def _check_dim(io: NnetIo, dim: int) -> None:
    found = io.features.shape[1]
    if found != dim:
        sparse = isinstance(io.features, SparseMatrix)
        what = f"{found} classes" if sparse else f"dimension {found}"
        raise NnetError(
            f"the examples' targets of '{io.name}' have {what}, the network's output has "
            f"dimension {dim}; make the examples for this network (--num-pdfs={dim}), or give the "
            f"output layer dim={found}"
        )


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
