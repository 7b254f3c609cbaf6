"""Progress for people: a bar on a terminal, plain lines elsewhere; always on standard error."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nnet.training.reports.records import MinibatchRecord, Position, ValidationRecord

SMOOTHING = 0.95


class ProgressDisplay:
    """Draws a bar if standard error is a terminal, and writes a line at each validation.

    Args:
        num_epochs: of the whole run.
        console: where to draw; standard error by default.
    """

    def __init__(self, num_epochs: int, console: Console | None = None) -> None:
        self._num_epochs = num_epochs
        self._console = console or Console(stderr=True)
        self._averages = Averages()
        self._epoch = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f}%"),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            refresh_per_second=4,
            transient=True,
        )
        self._task = self._bar.add_task("training", total=1.0, numbers="")

    def start(self, position: Position, validations: int = 0) -> None:
        if position.step:
            self._say(f"going on after minibatch {position.step} (epoch {position.epoch + 1})")
        if self._console.is_terminal:
            self._bar.start()

    def minibatch(self, record: MinibatchRecord) -> None:
        if record.epoch != self._epoch:
            self._line_of_epoch("")
            self._epoch = record.epoch
        self._averages.add(record)
        if self._console.is_terminal:
            self._bar.update(
                self._task,
                completed=record.done,
                description=f"epoch {record.epoch + 1}/{self._num_epochs}",
                numbers=f"{self._averages.text()}  lrate {record.learning_rate:.2g}",
            )

    def validation(self, record: ValidationRecord) -> None:
        accuracy = "" if record.accuracy is None else f" {record.accuracy:6.2%}"
        self._line_of_epoch(f"   valid {record.objective:8.4f}{accuracy}", record.epochs)

    def saving(self) -> None:
        """Nothing to draw."""

    def close(self) -> None:
        self._line_of_epoch("")
        if self._console.is_terminal:
            self._bar.stop()

    def _line_of_epoch(self, valid: str, epochs: float | None = None) -> None:
        """One line about the minibatches since the last line."""
        if not self._averages.weight and not valid:
            return
        number = self._epoch + 1 if epochs is None else epochs
        self._say(f"epoch {number:5.4g}/{self._num_epochs}   {self._averages.text()}{valid}")
        self._averages = Averages()

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Averages:
    """Averages per frame of the minibatches since the last line."""

    def __init__(self) -> None:
        self.weight = 0.0
        self._total = 0.0
        self._correct: float | None = 0.0
        self._rate = 0.0

    def add(self, record: MinibatchRecord) -> None:
        self.weight += record.weight
        self._total += record.objective * record.weight
        if record.accuracy is None or self._correct is None:
            self._correct = None
        else:
            self._correct += record.accuracy * record.weight
        smoothing = SMOOTHING if self._rate else 0.0
        self._rate = smoothing * self._rate + (1 - smoothing) * record.frames_per_second

    def text(self) -> str:
        if not self.weight:
            return "before training"
        correct = "" if self._correct is None else f" {self._correct / self.weight:6.2%}"
        return f"train {self._total / self.weight:8.4f}{correct}   {self._rate:,.0f} frames/s"
