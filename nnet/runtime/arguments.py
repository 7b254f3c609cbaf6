"""What a compiled network is called with, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnet.arguments import described
from nnet.errors import NnetError
from nnet.graph.network import InputNode, Network

Inputs = Mapping[str, Tensor] | Tensor
"""Rows by input name, or the rows of a network's only input."""

INPUT = "features (batch, time, dim) as a tensor, or a dict of them by input name"


def named_inputs(network: Network, inputs: Any, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Inputs by name, as tensors of numbers that the network computes with.

    Args:
        inputs: rows (batch, time, dim), or (time, dim), by input name; or those of the only input.
        dtype: of the network's parameters, if it has any. Others are refused, but for numpy's
            arrays, which are converted, and where torch's autocast is on.

    Raises:
        NnetError: something else is given, an unknown name, or numbers of another type.
    """
    nodes = {node.name: node for node in network.inputs()}
    if isinstance(inputs, Tensor | np.ndarray):
        if len(nodes) != 1:
            raise NnetError(f"the network has inputs {_listed(nodes)}; expected: a dict of them")
        inputs = {next(iter(nodes)): inputs}
    if not isinstance(inputs, Mapping):
        raise NnetError(f"inputs are {described(inputs)}; expected: {INPUT}")
    for name in inputs:
        if name not in nodes:
            raise NnetError(f"the network has no input '{name}'; its inputs are {_listed(nodes)}")
    return {name: _tensor(name, rows, dtype) for name, rows in inputs.items()}


def check_sizes(rows: Mapping[str, Tensor]) -> None:
    """Raises NnetError if there are no sequences, or no frames of them."""
    for name, tensor in rows.items():
        if not tensor.shape[0] or not tensor.shape[-2]:
            raise NnetError(
                f"input '{name}' is {described(tensor)}; expected: at least one frame of at least "
                "one sequence"
            )


def _tensor(name: str, rows: Any, dtype: torch.dtype | None) -> Tensor:
    if isinstance(rows, np.ndarray) and rows.dtype.kind in "fiu":
        return torch.from_numpy(rows).to(dtype or torch.float32)
    if not isinstance(rows, Tensor):
        raise NnetError(f"input '{name}' is {described(rows)}; expected: {INPUT}")
    other = dtype is not None and rows.dtype != dtype and not _autocast(rows)
    if other or not rows.is_floating_point():
        wanted = str(dtype or torch.float32).removeprefix("torch.")
        raise NnetError(
            f"input '{name}' is {described(rows)}, and the network computes with {wanted}; "
            f"expected: {wanted} (x.to(torch.{wanted}), or module.to(x.dtype))"
        )
    return rows


def _autocast(rows: Tensor) -> bool:
    return torch.is_autocast_enabled(rows.device.type)


def _listed(nodes: Mapping[str, InputNode]) -> str:
    return ", ".join(f"'{node.name}' (dim {node.dim})" for node in nodes.values())
