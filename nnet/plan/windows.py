"""Where the input rows of components that look at several frames lie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from nnet.components.window import TimeWindow
from nnet.plan.times import IntArray, Selection, Shift, Times


@dataclass(frozen=True)
class WindowRows:
    """For each output time, which of the rows that are given it reads.

    Attributes:
        window: the component's.
        stored: the times of the input rows that are given, in order.
        own: the output times, in order. Each has what its window requires.
    """

    window: TimeWindow
    stored: Times
    own: Times

    @cached_property
    def index(self) -> IntArray:
        """Positions among the given rows, (output rows, offsets); -1 where there is none."""
        own = self.own.array()
        own = own - own % self.window.modulus
        times = own[:, None] + np.asarray(self.window.offsets, dtype=np.int64)
        stored = self.stored.array()
        if len(stored) == 0:
            return np.full(times.shape, -1, dtype=np.int64)
        positions = np.minimum(np.searchsorted(stored, times), len(stored) - 1)
        return np.where(stored[positions] == times, positions, -1)

    @cached_property
    def complete(self) -> bool:
        """True if no row is missing."""
        return self.window.exact or bool((self.index >= 0).all())

    def selection(self, number: int) -> Selection | None:
        """The rows that the output rows read at offset `number`; None if one is missing."""
        if self.window.exact:
            return self.stored.select(self.own, (Shift(self.window.offsets[number]),))
        column = self.index[:, number]
        return Selection.of(column) if bool((column >= 0).all()) else None

    @cached_property
    def spans(self) -> tuple[IntArray, IntArray] | None:
        """Each output row's rows as `first` up to `end` (exclusive); None if they are no spans."""
        offsets = self.window.offsets
        steps = {b - a for a, b in pairwise(offsets)} or {1}
        step = next(iter(steps))
        times = self.stored.array()
        if len(steps) != 1 or step < 1 or (times % step != times[:1] % step).any():
            return None
        own = self.own.array()
        own = own - own % self.window.modulus
        if step > 1 and ((own + offsets[0] - times[:1]) % step != 0).any():
            return None
        first = np.searchsorted(times, own + offsets[0])
        end = np.searchsorted(times, own + offsets[-1], side="right")
        return first, end
