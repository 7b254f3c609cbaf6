"""Dropout schedules: from the share of the training that is done to dropout proportions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

from nnet.errors import NnetError

FORM = "such as '0,0@0.2,0.5@0.5,0' or '*=0,0.3,0 lstm*=0,0.2,0'"


@dataclass(frozen=True)
class Line:
    """Straight lines between points (share of the training, dropout proportion)."""

    points: tuple[tuple[float, float], ...]

    def at(self, done: float) -> float:
        """The proportion when the share `done`, 0 to 1, of the training is done."""
        for (start, low), (end, high) in pairwise(self.points):
            if start <= done < end:
                return low + (high - low) * (done - start) / (end - start)
        return self.points[-1][1]


@dataclass(frozen=True)
class DropoutSchedule:
    """A schedule for the components that match a pattern; a later pattern overrules one before.

    Args:
        lines: by pattern of component names.
    """

    lines: tuple[tuple[str, Line], ...]

    @staticmethod
    def parse(text: str) -> DropoutSchedule:
        """Reads what train.py takes as --trainer.dropout-schedule.

        Items are separated by spaces, each `PATTERN=POINTS` or `POINTS` for all components. Points
        are separated by commas: the proportion at the start, then `PROPORTION@SHARE` (a share of
        0.5 can be left out), then the proportion at the end.

        Raises:
            NnetError: the text is none.
        """
        lines = []
        for item in text.split():
            pattern, equals, points = item.rpartition("=")
            lines.append((pattern if equals else "*", _line(text, points)))
        if not lines:
            raise _wrong(text, "it is empty")
        return DropoutSchedule(tuple(lines))

    def proportions(self, names: Iterable[str], done: float) -> dict[str, float]:
        """The proportions of those components that match a pattern."""
        chosen = {}
        for name in names:
            for pattern, line in self.lines:
                if fnmatchcase(name, pattern):
                    chosen[name] = line.at(done)
        return chosen


def _line(text: str, points: str) -> Line:
    first, *middle = points.split(",")
    if not middle:
        raise _wrong(text, f"'{points}' has no proportion for the end")
    *between, last = middle
    found = [(0.0, _share(text, first))]
    for point in between:
        proportion, _, share = point.partition("@")
        place = _share(text, share) if share else 0.5
        if place < found[-1][0]:
            raise _wrong(text, f"the shares of '{points}' do not rise")
        found.append((place, _share(text, proportion)))
    return Line((*found, (1.0, _share(text, last))))


def _share(text: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise _wrong(text, f"'{word}' is not a number") from None
    if not 0.0 <= value <= 1.0:
        raise _wrong(text, f"{word} is not between 0 and 1")
    return value


def _wrong(text: str, found: str) -> NnetError:
    return NnetError(f"--dropout-schedule is '{text}': {found}; expected: {FORM}")
