"""What a training run reports, and who listens."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from nnet.training.tallies import Tally


@dataclass(frozen=True)
class Position:
    """How far training is: `batch` minibatches of epoch `epoch` (from 0), `step` in all."""

    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass(frozen=True)
class OutputRecord:
    """One output over some frames: averages of its objective, of what is trained beside it (such
    as LF-MMI's l2 term), and the accuracy, if it means something."""

    objective: float
    auxiliary: float
    accuracy: float | None
    weight: float

    @staticmethod
    def of(tally: Tally) -> OutputRecord:
        weight = tally.weight or float("nan")
        return OutputRecord(
            tally.total / weight, tally.auxiliary / weight, tally.accuracy, tally.weight
        )


@dataclass(frozen=True)
class MinibatchRecord:
    """One minibatch. `objective`, `accuracy` and `weight` (output frames) are of all outputs
    together but for regularizers, `done` is the share of the training, 0 to 1, `waited` for
    how many seconds there was no data, `shrink` by what the parameters were scaled before it."""

    step: int
    epoch: int
    done: float
    objective: float
    accuracy: float | None
    weight: float
    learning_rate: float
    grad_norm: float
    frames_per_second: float
    waited: float = 0.0
    shrink: float = 1.0
    outputs: dict[str, OutputRecord] = field(default_factory=dict)


@dataclass(frozen=True)
class ValidationRecord:
    """The whole validation set, when `epochs` of the training data have been seen."""

    step: int
    epochs: float
    objective: float
    accuracy: float | None
    frames: float
    seconds: float
    outputs: dict[str, OutputRecord] = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """A point of a curve: averages per frame over the stretch that ends at `epochs`."""

    epochs: float
    objective: float
    accuracy: float | None


@dataclass
class History:
    """The curves so far. Minibatches are gathered into about `points` points of the whole run."""

    points: int = 200
    train: list[Point] = field(default_factory=list)
    valid: list[Point] = field(default_factory=list)
    total: float = 0.0
    correct: float | None = 0.0
    weight: float = 0.0

    def add_minibatch(self, record: MinibatchRecord, num_epochs: int) -> None:
        """Takes a minibatch into the present point, and begins a new point where one is due."""
        self.total += record.objective * record.weight
        self.weight += record.weight
        if record.accuracy is None or self.correct is None:
            self.correct = None
        else:
            self.correct += record.accuracy * record.weight
        if record.done * self.points >= len(self.train) + 1 and self.weight:
            accuracy = None if self.correct is None else self.correct / self.weight
            epochs = record.done * num_epochs
            self.train.append(Point(epochs, self.total / self.weight, accuracy))
            self.total, self.weight, self.correct = 0.0, 0.0, 0.0

    def add_validation(self, record: ValidationRecord) -> None:
        self.valid.append(Point(record.epochs, record.objective, record.accuracy))

    def state(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)

    @staticmethod
    def of(state: dict[str, Any]) -> History:
        """From what `state` gave."""
        curves = {name: [Point(**point) for point in state[name]] for name in ("train", "valid")}
        return History(**{**state, **curves})


class Reporter(Protocol):
    """Somebody who wants to know what happens: a log, a progress bar."""

    def start(self, position: Position, validations: int = 0) -> None:
        """Training starts, or goes on, at `position`, before which there were `validations`."""

    def minibatch(self, record: MinibatchRecord) -> None:
        """A minibatch is done."""

    def validation(self, record: ValidationRecord) -> None:
        """The validation set has been scored."""

    def saving(self) -> None:
        """A checkpoint will be on disk: what was reported so far is final and has to be there."""

    def close(self) -> None:
        """Training ended, well or badly."""
