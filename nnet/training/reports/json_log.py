"""The training log: one JSON object a line, for programs to read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from nnet.atomic import atomic_write
from nnet.errors import NnetError
from nnet.training.reports.records import MinibatchRecord, Position, ValidationRecord


class JsonLog:
    """Writes `start`, `minibatch` and `validation` events.

    After a resumed run the file holds each minibatch once, as if nothing had happened.

    Args:
        path: the file.
        description: what the first line says about the run.
    """

    def __init__(self, path: Path, description: dict[str, Any]) -> None:
        self._path = path
        self._description = description
        self._file: IO[str] | None = None

    def start(self, position: Position, validations: int = 0) -> None:
        kept = self._lines_until(position.step, validations) if position.step else []
        with atomic_write(self._path) as stream:
            stream.writelines(kept)
        with self._failing_cleanly():
            self._file = self._path.open("a", encoding="utf-8")
        if not kept:
            self._write("start", {"step": 0, **self._description})

    def minibatch(self, record: MinibatchRecord) -> None:
        self._write("minibatch", asdict(record))

    def validation(self, record: ValidationRecord) -> None:
        self._write("validation", asdict(record))

    def saving(self) -> None:
        if self._file is not None:
            with self._failing_cleanly():
                self._file.flush()
                os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with self._failing_cleanly():
                file.close()

    def _lines_until(self, step: int, validations: int) -> list[bytes]:
        """What there was before a checkpoint; the last validation of a run comes after it."""
        if not self._path.exists():
            return []
        kept = []
        for line in self._path.read_bytes().splitlines(keepends=True):
            try:
                event = json.loads(line)
            except ValueError:  # a line cut short by a kill
                continue
            validations -= event["event"] == "validation"
            if event["step"] <= step and (event["event"] != "validation" or validations >= 0):
                kept.append(line)
        return kept

    def _write(self, event: str, values: dict[str, Any]) -> None:
        if self._file is not None:
            line = json.dumps(_rounded({"event": event, **values}))
            with self._failing_cleanly():
                self._file.write(line + "\n")

    @contextmanager
    def _failing_cleanly(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NnetError(
                f"{self._path}: cannot write: {error.strerror}; make room and go on with --resume"
            ) from error


def _rounded(value: object) -> object:
    """Floats with seven digits; what is not a number becomes null, for JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value
