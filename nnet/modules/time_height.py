"""Convolution over time and height."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nnet.modules.registry import WindowModule, implements
from nnet.plan.windows import WindowRows

SPARSE = 2
"""How many times as many time offsets may be computed as there are, so that they are regular."""


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
    """Filters over pixels; the image is (batch, filters, time, height).

    The kernel covers an arithmetic range of offsets on each axis, zero at those that the component
    does not have. Where times are irregular, the rows of each output's window are put one after the
    other.
    """

    cells: Tensor
    dense_cells: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.linear = self.parameter("linear")
        self.bias = self.parameter("bias")
        self.times = _Axis(list(spec.time_offsets))
        self.heights = _Axis(sorted({height for _, height in spec.offsets}))
        places = [(self.times.place(t), self.heights.place(h)) for t, h in spec.offsets]
        order = {t: number for number, t in enumerate(spec.time_offsets)}
        dense = [(order[t], self.heights.place(h)) for t, h in spec.offsets]
        self._buffer_of("cells", places)
        self._buffer_of("dense_cells", dense)

    def _buffer_of(self, name: str, places: list[tuple[int, int]]) -> None:
        """Where in a kernel, time by time, each block of the filters lies."""
        cells = [time * self.heights.count + height for time, height in places]
        self.register_buffer(name, torch.tensor(cells), persistent=False)

    def windowed(self, x: Tensor, rows: WindowRows) -> Tensor:
        regular = self._regular(x, rows)
        if regular is None:
            count = len(self.spec.time_offsets)
            taken = [self.take(x, rows, number) for number in range(count)]
            x, step, dilation = torch.stack(taken, dim=1).flatten(0, 1), count, 1
            kernel = self._kernel(self.dense_cells, count)
        else:
            x, step, dilation = regular
            kernel = self._kernel(self.cells, self.times.count)
        image = self._image(x)
        result = functional.conv2d(
            image,
            kernel,
            self.bias,
            stride=(step, self.spec.height_subsample_out),
            dilation=(dilation, self.heights.step),
        )
        return result.permute(2, 0, 3, 1).flatten(-2)

    def _kernel(self, cells: Tensor, times: int) -> Tensor:
        """The filters as (filters out, filters in, times, heights)."""
        spec = self.spec
        blocks = self.linear.unflatten(1, (-1, spec.num_filters_in))
        whole = blocks.new_zeros((len(blocks), times * self.heights.count, spec.num_filters_in))
        whole = whole.index_copy(1, cells, blocks)
        return whole.unflatten(1, (times, self.heights.count)).permute(0, 3, 1, 2)

    def _image(self, x: Tensor) -> Tensor:
        """Rows as (batch, filters, time, height), padded or cut in height to what is read."""
        spec = self.spec
        pixels = x.unflatten(-1, (spec.height_in, spec.num_filters_in))
        first = self.heights.first
        reach = (self.heights.count - 1) * self.heights.step
        last = first + (spec.height_out - 1) * spec.height_subsample_out + reach
        padding = (-first, last - (spec.height_in - 1))
        if padding != (0, 0):
            pixels = functional.pad(pixels, (0, 0, *padding))
        image = pixels.permute(1, 3, 0, 2)
        return image.contiguous(memory_format=torch.channels_last)

    def _regular(self, x: Tensor, rows: WindowRows) -> tuple[Tensor, int, int] | None:
        """The rows that are read, the step between outputs and between offsets; None if irregular.

        Rows that are not stored are not there, and zero.
        """
        own, stored, axis = rows.own, rows.stored, self.times
        if not own.regular or not stored.regular or axis.count > SPARSE * len(axis.offsets):
            return None
        unit = stored.step if stored.count > 1 else math.gcd(own.step, axis.step)
        first = own.start + axis.first - stored.start
        if first % unit or axis.step % unit or (own.count > 1 and own.step % unit):
            return None
        step, dilation = own.step // unit if own.count > 1 else 1, axis.step // unit
        begin = first // unit
        end = begin + (own.count - 1) * step + (axis.count - 1) * dilation + 1
        inside = x[max(begin, 0) : max(min(end, stored.count), 0)]
        padding = (max(-begin, 0), max(end - stored.count, 0))
        if sum(padding):
            inside = functional.pad(inside, (0, 0, 0, 0, *padding))
        return inside, step, dilation
