"""Sets of times, and where the members of one set lie inside another.

A set of times is nearly always an arithmetic range (every frame, or every third), so that is what
the representation is made for; anything else is kept as a sorted array and treated exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from nnet.components.frames import Frames

COVER = 1.6
"""How many rows may be computed for one that is needed, so that rows lie at equal distances."""

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shift:
    """Row t reads row `t + by`."""

    by: int


@dataclass(frozen=True)
class RoundDown:
    """Row t reads the row of the largest multiple of `modulus` that is not above t."""

    modulus: int


@dataclass(frozen=True)
class At:
    """Every row reads row `time`."""

    time: int


TimeMap = Shift | RoundDown | At


def compose(outer: tuple[TimeMap, ...], inner: tuple[TimeMap, ...]) -> tuple[TimeMap, ...]:
    """The maps `outer`, then `inner`, in their shortest form (applied from left to right)."""
    result: list[TimeMap] = []
    for step in (*outer, *inner):
        match step, result:
            case ((Shift(by=0) | RoundDown(modulus=1)), _):
                continue
            case At(), _:
                result = [step]
            case Shift(by=by), [*before, Shift(by=last)]:
                result = [*before, Shift(last + by)] if last + by else before
            case _:
                result.append(step)
    return tuple(result)


@dataclass(frozen=True)
class Selection:
    """Which rows of a stored value are read, in order.

    Either the arithmetic range `start, start + step, ...` of `count` positions (step 0 repeats one
    row), or, where that cannot express it, the positions in `index`.
    """

    start: int
    step: int
    count: int
    index: IntArray | None = None

    @classmethod
    def of(cls, positions: IntArray) -> Self:
        """The selection of the given positions, regular if they are."""
        count = len(positions)
        if count == 0:
            return cls(0, 1, 0)
        step = int(positions[1] - positions[0]) if count > 1 else 1
        if step >= 0 and bool((np.diff(positions) == step).all()):
            return cls(int(positions[0]), step, count)
        return cls(0, 0, count, positions)

    def is_all(self, rows: int) -> bool:
        """True if this reads every one of `rows` rows, in order."""
        return self.index is None and self.start == 0 and self.step == 1 and self.count == rows


class Times:
    """An ordered set of times, in frames."""

    __slots__ = ("_array", "count", "start", "step")

    def __init__(self, start: int, step: int, count: int, array: IntArray | None = None) -> None:
        self.start = start
        self.step = step if count > 1 else 1
        self.count = count
        self._array = array

    @classmethod
    def of(cls, array: IntArray) -> Self:
        """The set of a sorted array without repetitions."""
        count = len(array)
        if count == 0:
            return cls(0, 1, 0)
        step = int(array[1] - array[0]) if count > 1 else 1
        regular = count < 3 or bool((np.diff(array) == step).all())
        return cls(int(array[0]), step, count, None if regular else array)

    @classmethod
    def of_frames(cls, frames: Frames) -> Self:
        """The set that bits hold."""
        bits, start = frames.bits, frames.window.start
        if not bits:
            return cls(0, 1, 0)
        lowest = (bits & -bits).bit_length() - 1
        bits >>= lowest
        if not bits & (bits + 1):
            return cls(start + lowest, 1, bits.bit_length())
        data = np.frombuffer(bits.to_bytes((bits.bit_length() + 7) // 8, "little"), dtype=np.uint8)
        return cls.of(start + lowest + np.flatnonzero(np.unpackbits(data, bitorder="little")))

    @property
    def regular(self) -> bool:
        return self._array is None

    @property
    def last(self) -> int:
        return (
            int(self._array[-1])
            if self._array is not None
            else self.start + self.step * (self.count - 1)
        )

    def array(self) -> IntArray:
        if self._array is not None:
            return self._array
        return self.start + self.step * np.arange(self.count, dtype=np.int64)

    def __len__(self) -> int:
        return self.count

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Times):
            return NotImplemented
        if self.regular and other.regular:
            if self.count == 0 or other.count == 0:
                return self.count == other.count
            return (self.start, self.step, self.count) == (other.start, other.step, other.count)
        return self.count == other.count and bool((self.array() == other.array()).all())

    def __repr__(self) -> str:
        if self.count == 0:
            return "{}"
        if self.count == 1:
            return f"{{{self.start}}}"
        if self.regular:
            by = f" by {self.step}" if self.step != 1 else ""
            return f"{self.start}..{self.last}{by}"
        return f"{{{self.start}, {int(self.array()[1])}, ... {self.last}: {self.count}}}"

    def image(self, maps: tuple[TimeMap, ...]) -> Times:
        """The set of all times that the maps reach from here."""
        times = self
        for step in maps:
            match step:
                case Shift(by=by):
                    moved = None if times._array is None else times._array + by
                    times = Times(times.start + by, times.step, times.count, moved)
                case At(time=time):
                    times = Times(time, 1, 1) if times.count else times
                case RoundDown(modulus=modulus):
                    array = times.array()
                    times = Times.of(_without_repeats(array - array % modulus))
        return times

    def union(self, other: Times) -> Times:
        if other.count == 0 or self is other:
            return self
        if self.count == 0:
            return other
        joined = self._regular_union(other)
        if joined is not None:
            return joined
        both = np.concatenate((self.array(), other.array()))
        both.sort(kind="stable")
        return Times.of(_without_repeats(both))

    def _regular_union(self, other: Times) -> Times | None:
        if not (self.regular and other.regular):
            return None
        first, second = (self, other) if self.start <= other.start else (other, self)
        step = first.step if first.count > 1 else second.step
        lag = second.start - first.start
        fits = lag % step == 0 and (second.count == 1 or second.step == step)
        if not fits or lag > first.count * step:
            return None
        last = max(first.last, second.last)
        return Times(first.start, step, (last - first.start) // step + 1)

    def covered(self) -> Times:
        """A regular set that contains this one, if it is not much larger; else this one."""
        if self._array is None:
            return self
        step = int(np.gcd.reduce(np.diff(self._array)))
        count = (self.last - self.start) // step + 1
        return Times(self.start, step, count) if count <= COVER * self.count else self

    def intersection(self, other: Times) -> Times:
        if self == other:
            return self
        if self.regular and other.regular and self.step == other.step == 1:
            start, last = max(self.start, other.start), min(self.last, other.last)
            return Times(start, 1, max(0, last - start + 1))
        return Times.of(np.intersect1d(self.array(), other.array(), assume_unique=True))

    def difference(self, other: Times) -> Times:
        return Times.of(np.setdiff1d(self.array(), other.array(), assume_unique=True))

    def residue(self, remainder: int, modulus: int) -> Times:
        """The members whose remainder modulo `modulus` is `remainder`."""
        array = self.array()
        return Times.of(array[array % modulus == remainder])

    def contains(self, other: Times) -> bool:
        if other.count == 0:
            return True
        if self.regular and self.step == 1:
            return self.count > 0 and self.start <= other.start and other.last <= self.last
        return bool(np.isin(other.array(), self.array()).all())

    def select(self, wanted: Times, maps: tuple[TimeMap, ...] = ()) -> Selection:
        """Where in this set, stored in order, the maps of `wanted` lie; all must be here."""
        shift = sum(step.by for step in maps if isinstance(step, Shift))
        if self.regular and wanted.regular and all(isinstance(step, Shift) for step in maps):
            offset, step = wanted.start + shift - self.start, wanted.step
            if offset % self.step == 0 and (wanted.count == 1 or step % self.step == 0):
                return Selection(offset // self.step, max(1, step // self.step), wanted.count)
        if maps and isinstance(maps[-1], At) and self.count == 1:
            return Selection(0, 0, wanted.count)
        return Selection.of(np.searchsorted(self.array(), _mapped(wanted.array(), maps)))


def _mapped(array: IntArray, maps: tuple[TimeMap, ...]) -> IntArray:
    for step in maps:
        match step:
            case Shift(by=by):
                array = array + by
            case At(time=time):
                array = np.full_like(array, time)
            case RoundDown(modulus=modulus):
                array = array - array % modulus
    return array


def _without_repeats(array: IntArray) -> IntArray:
    """The distinct elements of a sorted array."""
    different = np.empty(len(array), dtype=bool)
    different[:1] = True
    np.not_equal(array[1:], array[:-1], out=different[1:])
    return array[different]
