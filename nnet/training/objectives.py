"""Objectives: what the outputs of a network are trained for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nnet.data.minibatch import DenseTargets, Minibatch, SparseTargets, Targets
from nnet.errors import NnetError
from nnet.graph.network import Network
from nnet.runtime.logits import Logits, Output, finished


@dataclass(frozen=True, eq=False)
class Score:
    """Sums over a minibatch, each a scalar tensor; `total / weight` is the objective per frame.

    Attributes:
        total: of the objective function.
        weight: of the frames.
        correct: the weight of the frames whose largest output is their largest target, or None
            where that means nothing.
        auxiliary: a term that is trained together with `total` and reported beside it, such as the
            l2 term of LF-MMI.
        regularizer: None for an objective in its own right. A number for a regularizer, by which
            its derivative is multiplied; it is reported, but does not count in the objective of the
            network as a whole.
    """

    total: Tensor
    weight: Tensor
    correct: Tensor | None = None
    auxiliary: Tensor | None = None
    regularizer: float | None = None

    @property
    def trained(self) -> Tensor:
        """What the parameters are changed to make larger."""
        total = self.total if self.auxiliary is None else self.total + self.auxiliary
        return total if self.regularizer is None else total * self.regularizer


Scores = Mapping[str, Score]
"""By the names that reports call them by: of output nodes, in nnet3."""


class Objective(Protocol):
    """Scores the outputs of a network on a minibatch."""

    def __call__(self, outputs: Mapping[str, Output], minibatch: Minibatch) -> Scores:
        """The scores of all outputs that the minibatch has targets for.

        Args:
            outputs: of all outputs that the minibatch requests, (batch, time, dim), float32, or
                logits where their log-softmax is left to the objective.
            minibatch: has the targets.
        """


def loss(scores: Scores) -> Tensor:
    """Minus the sum of all that is trained, a scalar: nnet3 trains all outputs at once."""
    return -torch.stack([score.trained for score in scores.values()]).sum()


OutputObjective = Callable[[Output, Targets], Score]
OBJECTIVES: dict[str, OutputObjective] = {}
"""nnet3's objective functions, by the name that an output node gives."""


def objective(name: str) -> Callable[[OutputObjective], OutputObjective]:
    """Registers an objective function under the name that output nodes call it by."""

    def register(function: OutputObjective) -> OutputObjective:
        OBJECTIVES[name] = function
        return function

    return register


@dataclass(frozen=True)
class OutputObjectives:
    """Each output by the objective function that its node names.

    Args:
        names: of objective functions, by output.
    """

    names: Mapping[str, str]

    @staticmethod
    def of(network: Network, outputs: Iterable[str] | None = None) -> OutputObjectives:
        """Those of a network's outputs: of all, or of some."""
        wanted = None if outputs is None else set(outputs)
        return OutputObjectives(
            {
                node.name: node.objective
                for node in network.outputs()
                if wanted is None or node.name in wanted
            }
        )

    def __call__(self, outputs: Mapping[str, Output], minibatch: Minibatch) -> Scores:
        """One score for each output that the minibatch has targets for."""
        scores = {}
        for name, targets in minibatch.targets.items():
            if not isinstance(targets, SparseTargets | DenseTargets):
                raise NnetError(
                    f"the supervision of '{name}' is no target for each frame, which the "
                    f"objective '{self.names[name]}' needs"
                )
            scores[name] = OBJECTIVES[self.names[name]](outputs[name], targets)
        return scores


@objective("linear")
def linear(output: Output, targets: Targets) -> Score:
    """Sum of target times output: the log-likelihood, if the output is a log-softmax.

    Args:
        output: (batch, time, dim), or logits, which then need no log-softmax.
        targets: for the same rows. The weight of a row is the sum of its targets.
    """
    if isinstance(targets, SparseTargets):
        row_weights = targets.weights.sum(-1)
        wanted = targets.ids.gather(-1, targets.weights.argmax(-1, keepdim=True)).squeeze(-1)
    else:
        row_weights = targets.weights * targets.values.sum(-1)
        wanted = targets.values.argmax(-1)
    rows, best = _linear_rows(output, targets)
    correct = (row_weights * (best == wanted)).sum()
    return Score(rows.sum(), row_weights.sum(), correct.detach())


def _linear_rows(output: Output, targets: Targets) -> tuple[Tensor, Tensor]:
    """The objective of each row, and its largest output."""
    if isinstance(output, Logits):
        if isinstance(targets, SparseTargets):
            return output.log_likelihood(targets.weights, targets.ids)
        return output.log_likelihood(targets.values, scales=targets.weights)
    best = output.detach().argmax(-1)
    if isinstance(targets, SparseTargets):
        return (targets.weights * output.gather(-1, targets.ids)).sum(-1), best
    return targets.weights * (targets.values * output).sum(-1), best


@objective("quadratic")
def quadratic(output: Output, targets: Targets) -> Score:
    """Minus half the squared distance between target and output. Every row weighs the same.

    Args:
        output: (batch, time, dim).
        targets: for the same rows; ids and weights stand for vectors with these elements.
    """
    output = finished(output)
    if isinstance(targets, DenseTargets):
        distance = (targets.values - output).square().sum(-1)
        total = -0.5 * (targets.weights * distance).sum()
        return Score(total, targets.weights.sum())
    values = torch.zeros_like(output).scatter_add(-1, targets.ids, targets.weights)
    used = (targets.weights.sum(-1) > 0).to(output.dtype)
    total = -0.5 * (used * (values - output).square().sum(-1)).sum()
    correct = (used * (output.detach().argmax(-1) == values.argmax(-1))).sum()
    return Score(total, used.sum(), correct)
