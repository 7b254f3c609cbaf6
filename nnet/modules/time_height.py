"""Convolution over time and height."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from nnet.kernels.convolution.geometry import Image, Taps
from nnet.kernels.convolution.reference import image_convolution
from nnet.kernels.windows.windows import Windows
from nnet.modules.base import WindowModule, indexed
from nnet.modules.registry import implements
from nnet.plan.windows import WindowRows

SPARSE = 2
"""How many times as many time offsets may be computed as there are, so that they are regular."""


_WINDOWS: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""By the rows of an operation."""


class _Axis:
    """Sorted offsets, and the arithmetic range of `count` from `first` on that holds them."""

    def __init__(self, offsets: list[int]) -> None:
        self.offsets = offsets
        self.first = offsets[0]
        self.step = math.gcd(*(b - a for a, b in pairwise(offsets))) or 1
        self.count = (offsets[-1] - offsets[0]) // self.step + 1

    def place(self, offset: int) -> int:
        return (offset - self.first) // self.step


@implements("TimeHeightConvolutionComponent")
class TimeHeightConvolution(WindowModule):
    """Filters over pixels.

    Where times are regular, a window is an arithmetic range of offsets, zero at those that the
    component does not have; where they are not, it is the component's offsets alone.
    """

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.linear = self.parameter("linear")
        self.bias = self.parameter("bias")
        self._image = Image(
            spec.num_filters_in, spec.height_in, spec.height_out, spec.height_subsample_out
        )
        self._times = _Axis(list(spec.time_offsets))
        order = {time: number for number, time in enumerate(spec.time_offsets)}
        self._regular = Taps(tuple((self._times.place(t), h) for t, h in spec.offsets))
        self._irregular = Taps(tuple((order[t], h) for t, h in spec.offsets))

    def windowed(self, x: Tensor, rows: WindowRows) -> Tensor:
        return self.finished(x, rows)

    def finished(
        self, x: Tensor, rows: WindowRows, activation: str = "", offsets: Tensor | None = None
    ) -> Tensor:
        """The output, then an activation ('' or 'relu'), then offsets (output_dim,) or None."""
        windows = _WINDOWS.get(rows)
        if windows is None:
            windows = _WINDOWS[rows] = self._find(rows)
        taps = self._regular if windows.index is None else self._irregular
        return image_convolution(
            x,
            self.linear,
            self.bias,
            self._image,
            taps,
            windows,
            activation=activation,
            offsets=offsets,
            implementation=self.implementation,
        )

    def _find(self, rows: WindowRows) -> Windows:
        own, stored, axis = rows.own, rows.stored, self._times
        if not own.regular or not stored.regular or axis.count > SPARSE * len(axis.offsets):
            return indexed(rows)
        unit = stored.step if stored.count > 1 else math.gcd(own.step, axis.step)
        first = own.start + axis.first - stored.start
        if first % unit or axis.step % unit or (own.count > 1 and own.step % unit):
            return indexed(rows)
        step = own.step // unit if own.count > 1 else 1
        return Windows(own.count, first // unit, step, axis.step // unit)
