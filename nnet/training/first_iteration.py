"""The first iteration of Kaldi's training scripts, while the model changes fast.

train.py halves the minibatches of iteration 0 and divides --max-param-change by the square root of
2; of the models that several jobs trained it then takes the best one, since their average may be
worse than each of them.
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn
from torch.optim import Optimizer

from nnet.training.distribution import Processes, take_best
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD
from nnet.training.tallies import Tally


class FirstIteration:
    """Iteration 0 of a run.

    Args:
        minibatches: before they are halved, for each process; 0: there is no such iteration.
        processes: that work together.
    """

    def __init__(self, minibatches: int, processes: Processes) -> None:
        self._minibatches = minibatches
        self._processes = processes
        self._steps = 0
        self._total = self._weight = 0.0

    def batches(self, feed: Any, epoch: int) -> list[Any]:
        """What this process trains on in an epoch of a feed; begins with halves in the first."""
        batches = [*feed.epoch(epoch)]
        whole = self._minibatches * self._processes.count if epoch == 0 else 0
        halves = [half for batch in batches[:whole] for half in feed.halves(batch)]
        own = self._processes.share(halves)
        self._steps = len(own)
        return own + self._processes.share(batches[whole:])

    def is_start(self, batch: int, length: int) -> bool:
        """Whether an iteration begins at a place in the epoch, this one or another of `length`."""
        return batch == 0 or (batch >= self._steps and (batch - self._steps) % length == 0)

    def limit(self, optimizer: Optimizer, step: int) -> None:
        """Sets how much the parameters may change in a step, counted from 0."""
        if isinstance(optimizer, NaturalGradientSGD):
            optimizer.max_param_change_scale = math.sqrt(0.5) if step < self._steps else 1.0

    def add(self, tally: Tally) -> None:
        """Counts the objective of a step, by which the best process is told."""
        self._total += tally.total
        self._weight += tally.weight

    def after_step(self, step: int, module: nn.Module) -> None:
        """Averages parameters when that is due, or takes the best ones at the iteration's end.

        Args:
            step: how many there were.
        """
        if step > self._steps:
            self._processes.after_step(step, module)
        elif step == self._steps and self._processes.averages():
            take_best(module, self._total / max(self._weight, 1e-10))

    def state(self) -> dict[str, Any]:
        return {"total": self._total, "weight": self._weight}

    def set_state(self, state: dict[str, Any]) -> None:
        self._total, self._weight = float(state["total"]), float(state["weight"])
