"""One step of training: from a minibatch to changed parameters, for each kind of optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from nnet.data.minibatch import Minibatch
from nnet.training.distribution import Processes, sum_over_processes
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD
from nnet.training.objectives import Scores, loss
from nnet.training.scoring import Scorer
from nnet.training.tallies import ScoreNumbers, Tally, tallies


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


class Pending(Protocol):
    """A step that is under way.

    Attributes:
        waits: whether a device still works on it, so that there is better to do than to wait.
    """

    @property
    def waits(self) -> bool: ...

    def outcome(self) -> Outcome:
        """What it did, when it is done."""


class Step(Protocol):
    """Takes one step."""

    def __call__(self, minibatch: Minibatch) -> Pending: ...


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
class Done:
    """A step that has been waited for."""

    found: Outcome
    waits = False

    def outcome(self) -> Outcome:
        return self.found


@dataclass(frozen=True)
class GradientStep:
    """By the gradient of the objective per frame, clipped."""

    scorer: Scorer
    optimizer: Optimizer
    full_weight: float
    max_grad_norm: float
    sums: bool

    def __call__(self, minibatch: Minibatch) -> Done:
        self.optimizer.zero_grad()
        scores = self.scorer(minibatch)
        (loss(scores) / self.full_weight).backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.sums:
            sum_over_processes([p.grad for p in parameters if p.grad is not None])
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm).item()
        outcome = _outcome(tallies(scores), norm, finite=math.isfinite(norm))
        if outcome.applied:
            self.optimizer.step()
        return Done(outcome)


class Launched:
    """A step whose numbers are on their way from a device.

    Args:
        scores: before the step.
        tensor: the numbers of the scores, then the norm of the change and whether it is finite,
            float64.
    """

    def __init__(self, scores: ScoreNumbers, tensor: Tensor) -> None:
        self._scores = scores
        self.waits = tensor.device.type != "cpu"
        self._fetched = torch.empty_like(tensor, device="cpu", pin_memory=self.waits)
        self._fetched.copy_(tensor, non_blocking=True)
        self._event = torch.cuda.Event() if self.waits else None
        if self._event is not None:
            self._event.record()

    def outcome(self) -> Outcome:
        if self._event is not None:
            self._event.synchronize()
        *scores, norm, finite = self._fetched.tolist()
        return _outcome(self._scores.tallies(scores), norm, finite=bool(finite))


@dataclass(frozen=True)
class NaturalStep:
    """nnet3's: by the gradient of the summed objective, with max-change and all else."""

    scorer: Scorer
    optimizer: NaturalGradientSGD

    def __call__(self, minibatch: Minibatch) -> Launched:
        passes: list[Scores] = []
        closure = partial(self._pass, minibatch, passes)
        self.optimizer.step(closure, sequences=minibatch.sequences)
        return Launched(*self._numbers(passes[0]))

    def launch(self, minibatch: Minibatch) -> tuple[ScoreNumbers, Tensor]:
        """What can be recorded of a step: all but the optimizer's `finish`. Its numbers, as
        `Launched` takes them."""
        passes: list[Scores] = []
        self._pass(minibatch, passes)
        self.optimizer.update(minibatch.sequences)
        return self._numbers(passes[0])

    def _pass(self, minibatch: Minibatch, passes: list[Scores]) -> None:
        self.optimizer.zero_grad()
        scores = self.scorer(minibatch)
        loss(scores).backward()
        passes.append(scores)

    def _numbers(self, scores: Scores) -> tuple[ScoreNumbers, Tensor]:
        change = self.optimizer.max_change
        assert change is not None
        numbers = ScoreNumbers.of(scores)
        whole = torch.stack((change.total.double(), change.applied.double()))
        return numbers, torch.cat((numbers.tensor, whole))


def _outcome(sums: dict[str, Tally], norm: float, *, finite: bool) -> Outcome:
    applied = finite and all(math.isfinite(t.total + t.auxiliary) for t in sums.values())
    return Outcome(sums, norm, applied)
