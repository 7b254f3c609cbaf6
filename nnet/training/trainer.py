"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nnet.data.batches import Batch
from nnet.data.minibatch import Minibatch
from nnet.errors import NnetError
from nnet.graph.network import Network
from nnet.training.checkpoint import checkpoint_path, keep_newest, write_checkpoint
from nnet.training.feed import Feed
from nnet.training.optimizers import OPTIMIZERS, set_learning_rate
from nnet.training.options import TrainingOptions
from nnet.training.random_state import random_state, set_random_state
from nnet.training.records import (
    History,
    MinibatchRecord,
    Position,
    Reporter,
    ValidationRecord,
)
from nnet.training.schedules import learning_rate
from nnet.training.scoring import Scorer, evaluate, has_statistics, refresh_statistics

STATISTICS_MINIBATCHES = 50  # before a validation
STATISTICS_FRAMES = 100_000  # after training


class Trainer:
    """Trains a module. Its state can be stored and set again between any two minibatches.

    Args:
        scorer: the module and its objective.
        train: training data.
        valid: validation data, or None.
        options: of the run.
        checkpoints: the folder for checkpoints.
        identity: what a checkpoint must have been made from to be resumed.
        reporters: are told what happens.

    Raises:
        NnetError: the network has nothing to train.
    """

    def __init__(
        self,
        scorer: Scorer,
        train: Feed,
        valid: Feed | None,
        options: TrainingOptions,
        checkpoints: Path,
        identity: dict[str, Any],
        reporters: Sequence[Reporter] = (),
    ) -> None:
        self.position = Position()
        self.history = History()
        self._scorer = scorer
        self._module = scorer.module
        self._train, self._valid = train, valid
        self._options = options
        self._checkpoints = checkpoints
        self._identity = identity
        self._reporters = reporters
        self._optimizer = OPTIMIZERS[options.optimizer].make(self._module, options)
        self._parameters = [p for g in self._optimizer.param_groups for p in g["params"]]

    def run(self) -> None:
        """Trains from the present position to the end, then settles the batch-norm statistics.

        Raises:
            NnetError: the objective or its gradient is not finite, or the disk is full.
        """
        self._module.train()
        try:
            for reporter in self._reporters:
                reporter.start(self.position)
            while self.position.epoch < self._options.num_epochs:
                self._run_epoch()
            self._settle_statistics()
            self._validate()
        finally:
            for reporter in self._reporters:
                reporter.close()

    def network(self) -> Network:
        """The network as it is now."""
        return self._module.to_network()

    def state(self) -> dict[str, Any]:
        """All that the rest of the run depends on."""
        return {
            "identity": self._identity,
            "position": vars(self.position),
            "module": self._module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": random_state(),
            "history": self.history.state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Puts the trainer where it was when `state` was taken."""
        self.position = Position(**state["position"])
        self._module.load_state_dict(state["module"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.history = History.of(state["history"])
        set_random_state(state["random"])

    def _run_epoch(self) -> None:
        """The rest of the present epoch."""
        batches = self._train.epoch(self.position.epoch)
        ends = _validation_ends(len(batches), self._options.valid_every)
        begins = _statistics_begins(ends)
        with self._train.minibatches(batches[self.position.batch :]) as minibatches:
            started = time.monotonic()
            for minibatch in minibatches:
                if self._valid and self.position.batch in begins:
                    self._module.zero_stats()
                self._train_on(minibatch, len(batches), started)
                started = time.monotonic()
                self._after_minibatch(len(batches), ends)

    def _after_minibatch(self, batches: int, validation_ends: Sequence[int]) -> None:
        epoch, batch, step = self.position.epoch, self.position.batch + 1, self.position.step + 1
        epoch_is_over = batch == batches
        self.position = Position(epoch, batch, step)
        last = epoch_is_over and epoch + 1 == self._options.num_epochs
        if batch in validation_ends and not last:
            self._validate(batch / batches)
        if epoch_is_over:
            self.position = Position(epoch + 1, 0, step)
        every = self._options.checkpoint_every
        if epoch_is_over or (every and step % every == 0):
            self._save()

    def _train_on(self, minibatch: Minibatch, batches: int, started: float) -> None:
        options, epoch = self._options, self.position.epoch
        rate = self._rate((epoch + self.position.batch / batches) / options.num_epochs)
        set_learning_rate(self._optimizer, rate)
        self._optimizer.zero_grad()
        score = self._scorer(minibatch)
        (score.total / -options.full_weight).backward()
        largest = options.max_grad_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, largest).item()
        total, weight = score.total.item(), score.weight.item()
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise self._not_finite(minibatch, total, norm)
        self._optimizer.step()
        if weight:
            frames = weight * options.frame_subsampling_factor
            record = MinibatchRecord(
                step=self.position.step + 1,
                epoch=epoch,
                done=(epoch + (self.position.batch + 1) / batches) / options.num_epochs,
                objective=total / weight,
                accuracy=None if score.correct is None else score.correct.item() / weight,
                weight=weight,
                learning_rate=rate,
                grad_norm=norm,
                frames_per_second=frames / (time.monotonic() - started),
            )
            self.history.add_minibatch(record, options.num_epochs)
            for reporter in self._reporters:
                reporter.minibatch(record)

    def _rate(self, done: float) -> float:
        return learning_rate(self._options.schedule or "", self._options.rates, done)

    def _validate(self, share_of_epoch: float = 0.0) -> None:
        if self._valid is None:
            return
        started = time.monotonic()
        with self._valid.minibatches(self._valid.whole()) as minibatches:
            averages = evaluate(self._scorer, minibatches)
        record = ValidationRecord(
            step=self.position.step,
            epochs=self.position.epoch + share_of_epoch,
            objective=averages.objective,
            accuracy=averages.accuracy,
            frames=averages.weight,
            seconds=time.monotonic() - started,
        )
        self.history.add_validation(record)
        for reporter in self._reporters:
            reporter.validation(record)

    def _save(self) -> None:
        write_checkpoint(checkpoint_path(self._checkpoints, self.position.step), self.state())
        keep_newest(self._checkpoints, self._options.keep_checkpoints)
        for reporter in self._reporters:
            reporter.saved()

    def _settle_statistics(self) -> None:
        if not has_statistics(self._module):
            return
        batches: list[Batch] = []
        frames = 0
        for batch in self._train.epoch(self._options.num_epochs):
            batches.append(batch)
            frames += sum(selection.chunk.frames for selection in batch)
            if frames >= STATISTICS_FRAMES:
                break
        with self._train.minibatches(batches) as minibatches:
            refresh_statistics(self._scorer, minibatches)

    def _not_finite(self, minibatch: Minibatch, total: float, norm: float) -> NnetError:
        what = f"objective is {total}" if not math.isfinite(total) else f"gradient norm is {norm}"
        names = list(dict.fromkeys(minibatch.utterances))
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return NnetError(
            f"training stopped at minibatch {self.position.step + 1} (epoch "
            f"{self.position.epoch + 1}): the {what}\n"
            f"utterances of the minibatch: {shown}\n"
            "lower --initial-effective-lrate or --max-grad-norm, or look for odd values in these "
            "utterances' features; the last checkpoint is from before"
        )


def _validation_ends(batches: int, every: int) -> list[int]:
    """After how many minibatches of an epoch to validate: every so many, and at the end."""
    return [*range(every, batches, every), batches] if every else [batches]


def _statistics_begins(ends: Sequence[int]) -> set[int]:
    """Where batch-norm statistics are zeroed, so that a validation sees recent ones alone."""
    return {max(start, end - STATISTICS_MINIBATCHES) for start, end in zip([0, *ends], ends)}  # noqa: B905
