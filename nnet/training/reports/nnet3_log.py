"""Each output's objective in nnet3-train's words, which Kaldi's scripts read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnet.atomic import atomic_write
from nnet.errors import NnetError
from nnet.training.reports.records import MinibatchRecord, OutputRecord, Position, ValidationRecord

PREFIX = "LOG (nnet-train) "


@dataclass
class Sums:
    """Sums over some minibatches of one output."""

    minibatches: int = 0
    weight: float = 0.0
    total: float = 0.0
    auxiliary: float = 0.0

    def add(self, record: OutputRecord) -> None:
        self.minibatches += 1
        if record.weight:
            self.weight += record.weight
            self.total += record.objective * record.weight
            self.auxiliary += record.auxiliary * record.weight

    @property
    def text(self) -> str:
        """`OBJECTIVE over WEIGHT frames.`, as a sum if there is an auxiliary term."""
        weight = self.weight or float("nan")
        words = [self.total / weight]
        if self.auxiliary:
            words += [self.auxiliary / weight, (self.total + self.auxiliary) / weight]
        numbers = [f"{word:.6g}" for word in words]
        average = numbers[0] if len(words) == 1 else "{} + {} = {}".format(*numbers)
        return f"{average} over {self.weight:.6g} frames."


@dataclass
class OutputStats:
    """The objective of one output so far: over all minibatches, and over those of a phase."""

    overall: Sums = field(default_factory=Sums)
    phase: int = 0
    in_phase: Sums = field(default_factory=Sums)


class ObjectiveLines:
    """Makes the lines.

    Args:
        interval: minibatches in a phase, at whose end there is a line (--print-interval).
    """

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._outputs: dict[str, OutputStats] = {}

    def add(self, step: int, outputs: Mapping[str, OutputRecord]) -> Iterator[str]:
        """Takes minibatch `step` (from 1); the lines about phases that are over."""
        phase = (step - 1) // self._interval
        for name, record in outputs.items():
            stats = self._outputs.setdefault(name, OutputStats())
            if phase != stats.phase:
                if stats.in_phase.minibatches:
                    yield self._line(name, stats)
                stats.phase, stats.in_phase = phase, Sums()
            stats.in_phase.add(record)
            stats.overall.add(record)

    def end(self) -> Iterator[str]:
        """The lines about the whole training."""
        for name, stats in sorted(self._outputs.items()):
            total = stats.overall
            yield f"Overall average objective function for '{name}' is {total.text}"
            yield (
                "[this line is to be parsed by a script:] log-prob-per-frame="
                f"{total.total / (total.weight or float('nan')):.6g}"
            )

    def _line(self, name: str, stats: OutputStats) -> str:
        first = stats.phase * self._interval
        places = f"{first}-{first + self._interval - 1}"
        which = f"for minibatches {places}"
        if stats.in_phase.minibatches != self._interval:
            count = stats.in_phase.minibatches
            which = f"using {count} minibatches in minibatch range {places}"
        return f"Average objective function for '{name}' {which} is {stats.in_phase.text}"


class Nnet3Log:
    """Writes the lines to a file; after a resumed run it is as if nothing had happened.

    Args:
        path: the file.
        events: the JsonLog of the same run, which has started when this starts.
        interval: minibatches from one line to the next.
    """

    def __init__(self, path: Path, events: Path, interval: int) -> None:
        self._path = path
        self._events = events
        self._lines = ObjectiveLines(interval)

    def start(self, position: Position, validations: int = 0) -> None:
        lines = [line for event in self._past() for line in self._of_event(event)]
        with atomic_write(self._path) as stream:
            stream.write(_text(lines).encode())

    def minibatch(self, record: MinibatchRecord) -> None:
        self._append(self._lines.add(record.step, record.outputs))

    def validation(self, record: ValidationRecord) -> None:
        """nnet3-train does not validate."""

    def saving(self) -> None:
        """What is in the file is final."""

    def close(self) -> None:
        self._append(self._lines.end())

    def _past(self) -> Iterator[dict[str, Any]]:
        with self._events.open(encoding="utf-8") as file:
            yield from (event for event in map(json.loads, file) if event["event"] == "minibatch")

    def _of_event(self, event: Mapping[str, Any]) -> Iterator[str]:
        outputs = {name: OutputRecord(**values) for name, values in event["outputs"].items()}
        return self._lines.add(event["step"], outputs)

    def _append(self, lines: Iterator[str]) -> None:
        text = _text(lines)
        if not text:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise NnetError(
                f"{self._path}: cannot write: {error.strerror}; make room and go on with --resume"
            ) from error


def _text(lines: Iterator[str] | list[str]) -> str:
    return "".join(f"{PREFIX}{line}\n" for line in lines)
