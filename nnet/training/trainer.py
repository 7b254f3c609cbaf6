"""The training loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from nnet.data.minibatch import Minibatch
from nnet.graph.network import Network
from nnet.process import Stopped, not_interrupted
from nnet.training.checkpoints.average import combine_checkpoints
from nnet.training.checkpoints.checkpoint import (
    checkpoint_path,
    checkpoints,
    keep_newest,
    write_checkpoint,
)
from nnet.training.checkpoints.process_states import own_part, own_states
from nnet.training.distribution import Processes
from nnet.training.dropout_schedule import DropoutSchedule
from nnet.training.feeds.corpus import Feed, first_batches
from nnet.training.feeds.examples import ExampleFeed
from nnet.training.first_iteration import FirstIteration
from nnet.training.optimizers import OPTIMIZERS, set_learning_rate
from nnet.training.options import TrainingOptions
from nnet.training.random_state import random_state, seed_all, set_random_state
from nnet.training.recorded_step import Recorder, recorded
from nnet.training.reports.records import (
    History,
    MinibatchRecord,
    OutputRecord,
    Position,
    Reporter,
    ValidationRecord,
)
from nnet.training.schedules import learning_rate
from nnet.training.scoring import (
    Scorer,
    average_posterior,
    evaluate,
    has_statistics,
    refresh_statistics,
    scale_module,
    zero_activation_statistics,
    zero_batchnorm,
)
from nnet.training.shrinkage import saturation
from nnet.training.steps import Outcome, make_step
from nnet.training.tallies import Tallies, Tally, overall
from nnet.training.under_way import UnderWay

log = logging.getLogger(__name__)

MOST_SKIPPED = 10  # minibatches in a row that are not finite
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
        processes: that work together; only the first one reports and writes.
        recorder: of graphs, with the option `cuda_graph`; of CUDA graphs by default.

    Raises:
        NnetError: the network has nothing to train, or its steps cannot be recorded.
    """

    def __init__(
        self,
        scorer: Scorer,
        train: Feed | ExampleFeed,
        valid: Feed | ExampleFeed | None,
        options: TrainingOptions,
        checkpoints: Path,
        identity: dict[str, Any],
        reporters: Sequence[Reporter] = (),
        processes: Processes | None = None,
        recorder: Recorder | None = None,
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
        weight, clip = options.full_weight, options.max_grad_norm
        self._processes = processes or Processes()
        self._first = FirstIteration(options.first_iter_minibatches, self._processes)
        self._step = make_step(scorer, self._optimizer, weight, clip, self._processes)
        if options.cuda_graph:
            self._step = recorded(self._step, recorder)
        self._under_way: UnderWay | None = None
        self._skipped = 0
        self._saved_step = 0
        schedule = options.dropout_schedule
        self._dropout = None if schedule is None else DropoutSchedule.parse(schedule)

    def run(self) -> None:
        """Trains from the present position to the end, then settles the batch-norm statistics.

        Raises:
            NnetError: the objective or its gradient is not finite, or the disk is full.
        """
        self._module.train()
        if self.position.step == 0:
            self._module.zero_stats()
        try:
            for reporter in self._reporters:
                reporter.start(self.position, len(self.history.valid))
            while not self.is_done:
                self._run_epoch()
            self._combine()
            self._settle_statistics()
            self._validate()
        except Stopped as stop:
            raise Stopped(stop.number, self._save_at_stop(stop)) from None
        finally:
            for reporter in self._reporters:
                reporter.close()

    @property
    def is_done(self) -> bool:
        """Whether all minibatches have been trained on."""
        return self.position.epoch >= self._options.num_epochs

    @property
    def leads(self) -> bool:
        """Whether this process writes the results."""
        return self._processes.leads

    def network(self) -> Network:
        """The network as it is now."""
        return self._module.to_network()

    def state(self) -> dict[str, Any]:
        """All that the rest of the run depends on, but for what is different in other processes."""
        return {
            "identity": self._identity,
            "position": vars(self.position),
            "skipped": self._skipped,
            "module": self._module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": random_state(),
            "history": self.history.state(),
            "first_iteration": self._first.state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Puts the trainer where it was when `state` was taken."""
        self.position = Position(**state["position"])
        self._saved_step = self.position.step
        self._skipped = state["skipped"]
        self._module.load_state_dict(state["module"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.history = History.of(state["history"])
        self._first.set_state(state["first_iteration"])
        set_random_state(state["random"])

    def resume(self, read: Callable[[], dict[str, Any] | None]) -> bool:
        """Goes on from a checkpoint in all processes; false if there is none.

        Args:
            read: gives the checkpoint; is called in the leading process alone.
        """
        state = read() if self.leads else None
        found = None if state is None else own_states(state)
        mine = self._processes.scatter(found or [None] * self._processes.count)
        if mine is not None:
            self.set_state(mine)
        return mine is not None

    def _run_epoch(self) -> None:
        """The rest of the present epoch."""
        batches = self._first.batches(self._train, self.position.epoch)
        ends = _validation_ends(len(batches), self._options.valid_every)
        begins = _statistics_begins(ends)
        with self._train.minibatches(batches[self.position.batch :]) as minibatches:
            started = time.monotonic()
            for minibatch in minibatches:
                waited = time.monotonic() - started
                with not_interrupted():
                    if self._valid and self.position.batch in begins:
                        zero_batchnorm(self._module)
                    self._train_on(minibatch, len(batches), started, waited)
                    self._after_minibatch(len(batches), ends)
                started = time.monotonic()

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

    def _train_on(self, minibatch: Minibatch, batches: int, started: float, waited: float) -> None:
        options, epoch = self._options, self.position.epoch
        done = (epoch + self.position.batch / batches) / options.num_epochs
        rate = self._rate(done)
        set_learning_rate(self._optimizer, rate)
        self._first.limit(self._optimizer, self.position.step)
        shrink = self._begin_iteration(rate, batches)
        if self._dropout is not None:
            names = self._module.plan.components
            self._module.set_dropout_proportions(self._dropout.proportions(names, done))
        if self._processes.count > 1:  # so that a checkpoint need not hold all generators
            seed_all(hash((options.seed, self._processes.rank, self.position.step)) % 2**31)
        pending = self._step(minibatch)
        self._settle()
        done = (epoch + (self.position.batch + 1) / batches) / options.num_epochs
        self._under_way = UnderWay(
            pending, minibatch, self.position, done, rate, shrink, started, waited
        )
        if not pending.waits or self._processes.averages():
            self._settle()
        self._first.after_step(self.position.step + 1, self._module)

    def _settle(self) -> None:
        """Waits for the step that is under way, if there is one, and reports what it did."""
        under_way, self._under_way = self._under_way, None
        if under_way is None:
            return
        outcome = under_way.pending.outcome()
        if not outcome.applied:
            self._skip(under_way, outcome)
        elif (all_outputs := overall(outcome.tallies)).weight:
            self._skipped = 0
            self._first.add(all_outputs)
            frames = under_way.minibatch.frames * self._options.frame_subsampling_factor
            record = MinibatchRecord(
                step=under_way.position.step + 1,
                epoch=under_way.position.epoch,
                done=under_way.done,
                objective=all_outputs.objective,
                accuracy=all_outputs.accuracy,
                weight=all_outputs.weight,
                learning_rate=under_way.learning_rate,
                grad_norm=outcome.norm,
                frames_per_second=frames / (time.monotonic() - under_way.started),
                waited=under_way.waited,
                shrink=under_way.shrink,
                outputs=_output_records(outcome.tallies),
            )
            self.history.add_minibatch(record, self._options.num_epochs)
            for reporter in self._reporters:
                reporter.minibatch(record)

    def _begin_iteration(self, rate: float, batches: int) -> float:
        """Shrinks the parameters, if an iteration begins here; by which scale.

        As in nnet3-train, activation statistics, which tell the saturation, begin anew.
        """
        shrinkage, position = self._options.shrinkage, self.position
        length = self._options.minibatches_per_iter or batches
        if not shrinkage.is_used or not self._first.is_start(position.batch, length):
            return 1.0
        first = position.step == 0
        scale = shrinkage.scale(rate, first, lambda: saturation(self._module.to_network()))
        if scale != 1.0:
            scale_module(self._module, scale)
        zero_activation_statistics(self._module)
        return scale

    def _skip(self, step: UnderWay, outcome: Outcome) -> None:
        """Passes over a minibatch that is not finite, if that is rare.

        As in nnet3, this is so with natural gradient alone; Adam's moments are not worth the risk.
        """
        error = step.error(outcome)
        self._skipped += 1
        if self._options.optimizer != "natural-gradient" or self._skipped > MOST_SKIPPED:
            raise error
        log.warning("this minibatch is skipped: %s", error)

    def _rate(self, done: float) -> float:
        """The learning rate: Kaldi's effective one times the processes that are averaged."""
        rate = learning_rate(self._options.schedule or "", self._options.rates, done)
        linear = OPTIMIZERS[self._options.optimizer].linear
        return rate * self._processes.count if linear and self._processes.averages() else rate

    def _validate(self, share_of_epoch: float = 0.0) -> None:
        self._settle()
        if self._valid is None or not self._processes.leads:
            return
        started = time.monotonic()
        sums = self._evaluate(self._valid)
        all_outputs = overall(sums)
        record = ValidationRecord(
            step=self.position.step,
            epochs=self.position.epoch + share_of_epoch,
            objective=all_outputs.objective,
            accuracy=all_outputs.accuracy,
            frames=all_outputs.weight,
            seconds=time.monotonic() - started,
            outputs=_output_records(sums),
        )
        self.history.add_validation(record)
        for reporter in self._reporters:
            reporter.validation(record)

    def _evaluate(self, data: Feed | ExampleFeed) -> dict[str, Tally]:
        batches: list[Any] = [*data.whole()]
        with data.minibatches(batches) as minibatches:
            return evaluate(self._scorer, minibatches)

    def _combine(self) -> None:
        """Averages the last checkpoints if that is better on the validation data."""
        valid, most = self._valid, self._options.max_models_combine
        if valid is None or most < 2 or not self._processes.leads:
            return
        paths = checkpoints(self._checkpoints)[::-1][:most]
        combine_checkpoints(self._module, paths, lambda: overall(self._evaluate(valid)).objective)

    def average_posterior(self, output: str) -> Tensor:
        """The mean probabilities of an output on training data, float64 (dim,)."""
        with self._train.minibatches(self._some_batches()) as minibatches:
            return average_posterior(self._scorer, output, minibatches)

    def _save(self) -> None:
        """Writes a checkpoint; all processes take part."""
        self._settle()
        state = self.state()
        if not self.leads:
            self._processes.gather(own_part(state, self._module, whole=self._processes.averages()))
            return
        state["others"] = self._processes.gather(None)[1:]
        for reporter in self._reporters:
            reporter.saving()
        write_checkpoint(checkpoint_path(self._checkpoints, self.position.step), state)
        self._saved_step = self.position.step
        keep_newest(self._checkpoints, self._options.keep_checkpoints)

    def _save_at_stop(self, stop: Stopped) -> str:
        """Writes a last checkpoint where that is possible; what the user can do.

        Several processes are not stopped at the same minibatch, and one that is stopped inside of a
        minibatch (by a second signal) is in no state to go on from.
        """
        alone = self._processes.count == 1 and not stop.at_once
        if alone and self.position.step != self._saved_step:
            with not_interrupted():
                self._save()
        return "go on with --resume" if self._saved_step else ""

    def _settle_statistics(self) -> None:
        if not self._processes.leads or not has_statistics(self._module):
            return
        with self._train.minibatches(self._some_batches()) as minibatches:
            refresh_statistics(self._scorer, minibatches)

    def _some_batches(self) -> list[Any]:
        """Random training batches, enough for statistics."""
        return first_batches(self._train, self._options.num_epochs, STATISTICS_FRAMES)


def _output_records(sums: Tallies) -> dict[str, OutputRecord]:
    return {name: OutputRecord.of(tally) for name, tally in sums.items()}


def _validation_ends(batches: int, every: int) -> list[int]:
    """After how many minibatches of an epoch to validate: every so many, and at the end."""
    return [*range(every, batches, every), batches] if every else [batches]


def _statistics_begins(ends: Sequence[int]) -> set[int]:
    """Where batch-norm statistics are zeroed, so that a validation sees recent ones alone."""
    return {max(start, end - STATISTICS_MINIBATCHES) for start, end in zip([0, *ends], ends)}  # noqa: B905
