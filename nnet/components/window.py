"""Which input frames an output frame of a component reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnet.components.frames import Frames


@dataclass(frozen=True)
class TimeWindow:
    """Output frame t reads the frames s + o, o in `offsets`, s = t rounded down to a `modulus`.

    Those of `required` must be there; of the others, those that are there are read, and at least
    one frame must be, unless the window is empty: a component without an input. Outputs exist only
    at times that are multiples of `every`.

    Attributes:
        offsets: in increasing order or in the order of a component's parameters; a `range` may be
            long.
        required: the offsets without which there is no output.
    """

    offsets: Sequence[int] = (0,)
    required: Sequence[int] = (0,)
    modulus: int = 1
    every: int = 1

    @classmethod
    def all_of(cls, offsets: Sequence[int]) -> TimeWindow:
        """All the frames at `offsets` are needed."""
        return cls(offsets, offsets)

    @property
    def exact(self) -> bool:
        """True if every frame of the window is required, at every time."""
        return len(self.required) == len(self.offsets) and self.modulus == self.every == 1

    @property
    def is_point(self) -> bool:
        """True if an output frame reads the input frame of its own time, no other."""
        return self.exact and tuple(self.offsets) == (0,)

    @property
    def first(self) -> int:
        """The earliest frame that is read, relative to t."""
        return self._ends[0] - (self.modulus - 1)

    @property
    def last(self) -> int:
        """The latest frame that is read, relative to t."""
        return self._ends[1]

    @property
    def farthest(self) -> int:
        """How far from t the farthest frame is, or the longest period."""
        return max(-self.first, self.last, self.modulus, self.every)

    @property
    def _ends(self) -> tuple[int, int]:
        """The least and the largest offset."""
        if isinstance(self.offsets, range) and self.offsets:
            ends = self.offsets[0], self.offsets[-1]
            return min(ends), max(ends)
        return min(self.offsets, default=0), max(self.offsets, default=0)

    def computable(self, available: Frames) -> Frames:
        """The output frames that can be computed when the input frames `available` are there."""
        result = available.shifted_any(self.offsets) if self.offsets else available.window.all
        for offset in self.required:
            result &= available.shifted(offset)
        if self.modulus > 1:
            result = result.rounded(self.modulus)
        return result & available.window.every(self.every, 0) if self.every > 1 else result
