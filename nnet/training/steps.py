"""One step of training: from a minibatch to changed parameters, for each kind of optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.optim import Optimizer

from nnet.data.minibatch import Minibatch
from nnet.training.distribution import Processes, sum_over_processes
from nnet.training.natural_sgd import NaturalGradientSGD
from nnet.training.objectives import Scores, loss
from nnet.training.scoring import Scorer
from nnet.training.tallies import Tally, tallies


@dataclass(frozen=True)
class Outcome:
    """What a step did.

    `tallies` are sums over the minibatch, before the step. `norm` is that of the gradient, or with
    natural gradient of the change before the global max-change. A step that is not `applied` left
    the parameters.
    """

    tallies: dict[str, Tally]
    norm: float
    applied: bool


class Step(Protocol):
    """Takes one step."""

    def __call__(self, minibatch: Minibatch) -> Outcome: ...


def make_step(
    scorer: Scorer,
    optimizer: Optimizer,
    full_weight: float,
    max_grad_norm: float,
    processes: Processes,
) -> Step:
    """The step that belongs to an optimizer.

    Args:
        scorer: the module and its objective.
        optimizer: of the module's parameters.
        full_weight: output frames of a full minibatch, by which a plain gradient is divided.
        max_grad_norm: to which a plain gradient is clipped; 0: not at all.
        processes: which work together.
    """
    if isinstance(optimizer, NaturalGradientSGD):
        optimizer.reduce = sum_over_processes if processes.sums() else None
        return NaturalStep(scorer, optimizer)
    clip = max_grad_norm or math.inf
    weight = full_weight * (processes.count if processes.sums() else 1)
    return GradientStep(scorer, optimizer, weight, clip, processes.sums())


@dataclass(frozen=True)
class GradientStep:
    """By the gradient of the objective per frame, clipped."""

    scorer: Scorer
    optimizer: Optimizer
    full_weight: float
    max_grad_norm: float
    sums: bool

    def __call__(self, minibatch: Minibatch) -> Outcome:
        self.optimizer.zero_grad()
        scores = self.scorer(minibatch)
        (loss(scores) / self.full_weight).backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.sums:
            sum_over_processes([p.grad for p in parameters if p.grad is not None])
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm).item()
        outcome = _outcome(scores, norm, finite=math.isfinite(norm))
        if outcome.applied:
            self.optimizer.step()
        return outcome


@dataclass(frozen=True)
class NaturalStep:
    """nnet3's: by the gradient of the summed objective, with max-change and all else."""

    scorer: Scorer
    optimizer: NaturalGradientSGD

    def __call__(self, minibatch: Minibatch) -> Outcome:
        passes: list[Scores] = []

        def closure() -> None:
            self.optimizer.zero_grad()
            scores = self.scorer(minibatch)
            loss(scores).backward()
            passes.append(scores)

        self.optimizer.step(closure, sequences=minibatch.sequences)
        change = self.optimizer.max_change
        assert change is not None
        return _outcome(passes[0], change.total.item(), finite=bool(change.applied))


def _outcome(scores: Scores, norm: float, *, finite: bool) -> Outcome:
    sums = tallies(scores)
    applied = finite and all(math.isfinite(t.total + t.auxiliary) for t in sums.values())
    return Outcome(sums, norm, applied)
