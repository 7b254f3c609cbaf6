"""What images are and which pixels a filter reads; see `nnet.kernels.convolution.reference`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor


class Image(NamedTuple):
    """What a row holds before and after, and how heights of the two belong together.

    Attributes:
        channels: columns of a pixel that is read.
        height_in, height_out: pixels read and made.
        height_step: pixels read between two that are made.
    """

    channels: int
    height_in: int
    height_out: int
    height_step: int


@dataclass(frozen=True)
class Taps:
    """The offsets of the filters: number in the window, and height, of each block of columns."""

    offsets: tuple[tuple[int, int], ...]

    @cached_property
    def window(self) -> int:
        """Rows of a window, up to the last that is read."""
        return max(number for number, _ in self.offsets) + 1

    @cached_property
    def heights(self) -> range:
        """The shortest range that has all heights."""
        heights = sorted({height for _, height in self.offsets})
        step = math.gcd(*(b - a for a, b in pairwise(heights))) or 1
        return range(heights[0], heights[-1] + 1, step)

    @cached_property
    def cells(self) -> Tensor:
        """Where in a kernel (window, heights) each block of the filters lies."""
        places = [n * len(self.heights) + self.heights.index(h) for n, h in self.offsets]
        return torch.tensor(places)

    @cached_property
    def fill_kernel(self) -> bool:
        """Whether the blocks of the filters are a whole kernel, in its order."""
        return self.cells.tolist() == list(range(self.window * len(self.heights)))
