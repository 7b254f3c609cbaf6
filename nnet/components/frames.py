"""Sets of frames inside a window, for computing which outputs can be computed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Frames `start` up to `start + length` (exclusive): all that a Frames can hold."""

    start: int
    length: int

    @property
    def all(self) -> Frames:
        return Frames(self, (1 << self.length) - 1)

    @property
    def none(self) -> Frames:
        return Frames(self, 0)

    def between(self, first: int, end: int) -> Frames:
        """Frames `first` up to `end` (exclusive), cut to the window."""
        low = min(max(first - self.start, 0), self.length)
        high = min(max(end - self.start, low), self.length)
        return Frames(self, (1 << high) - (1 << low))

    def every(self, period: int, remainder: int) -> Frames:
        """The frames t with t mod period = remainder."""
        first = (remainder - self.start) % period
        if first >= self.length:
            return self.none
        count = (self.length - first + period - 1) // period
        ones = ((1 << (period * count)) - 1) // ((1 << period) - 1)
        return Frames(self, ones << first)


@dataclass(frozen=True)
class Frames:
    """A set of frames of a window; bit i stands for frame `window.start + i`."""

    window: Window
    bits: int

    def __contains__(self, t: int) -> bool:
        place = t - self.window.start
        return 0 <= place < self.window.length and bool(self.bits >> place & 1)

    def __and__(self, other: Frames) -> Frames:
        return Frames(self.window, self.bits & other.bits)

    def __or__(self, other: Frames) -> Frames:
        return Frames(self.window, self.bits | other.bits)

    def shifted(self, offset: int) -> Frames:
        """The frames t for which `t + offset` is in the set."""
        if abs(offset) >= self.window.length:
            return self.window.none
        bits = self.bits >> offset if offset >= 0 else self.bits << -offset
        return Frames(self.window, bits & ((1 << self.window.length) - 1))

    def residue(self, remainder: int, modulus: int) -> Frames:
        """The frames of the set whose remainder modulo `modulus` is `remainder`."""
        return self & self.window.every(modulus, remainder)

    def difference(self, other: Frames) -> Frames:
        """The frames that are not in `other`."""
        return Frames(self.window, self.bits & ~other.bits)

    def reached(self, offsets: Sequence[int]) -> Frames:
        """The frames `t + offset` for all t in the set and all offsets."""
        return self.shifted_any([-offset for offset in reversed(offsets)])

    def floored(self, modulus: int) -> Frames:
        """The multiples of `modulus` to which the frames of the set are rounded down."""
        if modulus == 1:
            return self
        result = self.window.none
        for remainder in range(min(modulus, self.window.length)):
            result |= (self & self.window.every(modulus, remainder)).shifted(remainder)
        return result

    def shifted_any(self, offsets: Sequence[int]) -> Frames:
        """The frames t for which `t + offset` is in the set, for one of `offsets` at least."""
        steps = {b - a for a, b in itertools.pairwise(offsets)}
        if len(offsets) < 8 or len(steps) != 1:
            union = self.window.none
            for offset in offsets:
                union |= self.shifted(offset)
            return union
        step, count = steps.pop(), len(offsets)
        result, covered = self.shifted(offsets[0]), 1
        while covered < count:  # twice as many offsets each time
            more = min(covered, count - covered)
            result |= result.shifted(more * step)
            covered += more
        return result

    def rounded(self, modulus: int) -> Frames:
        """The frames t for which t, rounded down to a multiple of `modulus`, is in the set."""
        if modulus >= self.window.length:
            result = self.window.none
            first = self.window.start - self.window.start % modulus
            for t in range(first, self.window.start + self.window.length, modulus):
                if t in self:
                    result |= self.window.between(t, t + modulus)
            return result
        kept = self.bits & self.window.every(modulus, 0).bits
        bits = kept * ((1 << modulus) - 1) & ((1 << self.window.length) - 1)
        return Frames(self.window, bits)
