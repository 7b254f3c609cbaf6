"""nnet3's objective functions, by the name that an output node gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nnet.data.minibatch import DenseTargets, SparseTargets, Targets


@dataclass(frozen=True, eq=False)
class Score:
    """Sums over a minibatch, each a scalar tensor; `total / weight` is the objective per frame.

    `correct` is the weight of the frames whose largest output is their largest target, or None
    where that means nothing.
    """

    total: Tensor
    weight: Tensor
    correct: Tensor | None


Objective = Callable[[Tensor, Targets], Score]
OBJECTIVES: dict[str, Objective] = {}


def objective(name: str) -> Callable[[Objective], Objective]:
    """Registers an objective function under the name that output nodes call it by."""

    def register(function: Objective) -> Objective:
        OBJECTIVES[name] = function
        return function

    return register


@objective("linear")
def linear(output: Tensor, targets: Targets) -> Score:
    """Sum of target times output: the log-likelihood, if the output is a log-softmax.

    Args:
        output: (batch, time, dim).
        targets: for the same rows. The weight of a row is the sum of its targets.
    """
    if isinstance(targets, SparseTargets):
        row_weights = targets.weights.sum(-1)
        total = (targets.weights * output.gather(-1, targets.ids)).sum()
        wanted = targets.ids.gather(-1, targets.weights.argmax(-1, keepdim=True)).squeeze(-1)
    else:
        row_weights = targets.weights * targets.values.sum(-1)
        total = (targets.weights * (targets.values * output).sum(-1)).sum()
        wanted = targets.values.argmax(-1)
    return Score(total, row_weights.sum(), _correct(output, wanted, row_weights))


@objective("quadratic")
def quadratic(output: Tensor, targets: Targets) -> Score:
    """Minus half the squared distance between target and output. Every row weighs the same.

    Args:
        output: (batch, time, dim).
        targets: for the same rows; ids and weights stand for vectors with these elements.
    """
    if isinstance(targets, DenseTargets):
        distance = (targets.values - output).square().sum(-1)
        total = -0.5 * (targets.weights * distance).sum()
        return Score(total, targets.weights.sum(), None)
    values = torch.zeros_like(output).scatter_add(-1, targets.ids, targets.weights)
    used = (targets.weights.sum(-1) > 0).to(output.dtype)
    total = -0.5 * (used * (values - output).square().sum(-1)).sum()
    return Score(total, used.sum(), _correct(output, values.argmax(-1), used))


@torch.no_grad()
def _correct(output: Tensor, wanted: Tensor, row_weights: Tensor) -> Tensor:
    return (row_weights * (output.argmax(-1) == wanted)).sum()
