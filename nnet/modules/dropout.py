"""Components that are random in training and quiet in evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnet.kernels.recording import constants, number
from nnet.modules.base import ComponentModule
from nnet.modules.registry import implements
from nnet.plan.times import IntArray, Times


class RandomModule(ComponentModule):
    """Draws from torch's default generator of its device, so that a seed repeats a run."""

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.proportion = float(getattr(spec, "dropout_proportion", 0.0))

    @property
    def quiet(self) -> bool:
        return not self.training or self.spec.test_mode

    @property
    def phase(self) -> bool:
        """Whether anything is dropped at all."""
        return self.proportion > 0.0

    def _proportion(self) -> float:
        """At present; it may change from step to step."""
        return self.proportion


@implements("DropoutComponent")
class Dropout(RandomModule):
    """Zeroes elements (or whole rows) with the dropout proportion p; kept ones are not scaled up.

    In test mode the input is multiplied by 1 - p.
    """

    def forward(self, x: Tensor, times: Times) -> Tensor:
        if self.quiet:
            return x * (1.0 - self.proportion)
        columns = 1 if self.spec.dropout_per_frame else x.shape[-1]
        uniform = torch.rand((*x.shape[:-1], columns), dtype=x.dtype, device=x.device)
        return x * (uniform > number(self._proportion))


@implements("GeneralDropoutComponent")
class GeneralDropout(RandomModule):
    """Masks that are shared over time and repeated over blocks; in test mode, the identity.

    A mask row of `block_dim` columns holds for `time_period` frames of a sequence (0: for all). Its
    elements are 0 or 1 / (1 - p); if `continuous`, uniform in [1 - 2p, 1 + 2p]. With
    `specaugment_max_proportion` the mask instead zeroes a random band of columns, which may wrap
    around and be split into up to `specaugment_max_regions` bands (after Park et al. 2019).
    """

    def forward(self, x: Tensor, times: Times) -> Tensor:
        spectral = self.spec.specaugment_max_proportion > 0.0
        if self.quiet or (self.proportion == 0.0 and not spectral):
            return x
        period_of_row = self._periods(times)
        blocks = x.shape[-1] // self.spec.block_dim
        rows = (int(period_of_row[-1]) + 1, x.shape[1])
        mask = self._bands(rows, x) if spectral else self._elements(rows, x)
        mask = mask.repeat(1, 1, blocks) if blocks > 1 else mask
        if rows[0] > 1:  # one period is kept as it is: a scale a column of each sequence
            mask = mask.index_select(0, self._index(period_of_row, x))
        return x * mask

    def _periods(self, times: Times) -> IntArray:
        """For each time the number of its period, from 0 without gaps."""
        array = times.array()
        if self.spec.time_period == 0:
            return np.zeros_like(array)
        numbers = array // self.spec.time_period
        return np.cumsum(np.diff(numbers, prepend=numbers[0]) != 0)

    @staticmethod
    def _index(period_of_row: IntArray, x: Tensor) -> Tensor:
        return constants(tuple(period_of_row.tolist()), torch.int64, x.device)

    def _elements(self, rows: tuple[int, int], x: Tensor) -> Tensor:
        uniform = torch.rand((*rows, self.spec.block_dim), dtype=x.dtype, device=x.device)
        p = number(self._proportion)
        if self.spec.continuous:
            return uniform * (4.0 * p) + (1.0 - 2.0 * p)
        return (uniform > p).to(x.dtype) / (1.0 - p)

    def _bands(self, rows: tuple[int, int], x: Tensor) -> Tensor:
        bins = self.spec.block_dim
        most = int(bins * self.spec.specaugment_max_proportion + 0.5)
        shape = (*rows, 1)
        width = torch.randint(0, most + 1, shape, device=x.device)
        start = torch.randint(0, bins, shape, device=x.device)
        column = torch.arange(bins, device=x.device).expand(*rows, bins)
        mask = ((column - start) % bins >= width).to(x.dtype)
        for _ in range(1, self.spec.specaugment_max_regions):
            mask = mask.gather(-1, self._half_turned(column, shape))
        return mask

    def _half_turned(self, column: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A permutation of the columns that turns a random half of the circle on its head."""
        bins = self.spec.block_dim
        half = bins // 2
        start = torch.randint(0, bins, shape, device=column.device)
        place = (column - start) % bins
        quarter = half // 2
        swapped = (place < quarter) | ((place > half - quarter) & (place <= half))
        return torch.where(swapped, (start + half - place) % bins, column)


@implements("SpecAugmentTimeMaskComponent")
class SpecAugmentTimeMask(RandomModule):
    """Zeroes stretches of frames of each sequence; in test mode, the identity.

    Zeroed stretches last 1 to `time_mask_max_frames` frames, kept ones 1 to
    `time_mask_max_frames * (1 - z) / z`, z being `zeroed_proportion` (after Park et al. 2019).
    """

    recordable = False  # the host makes the masks

    def forward(self, x: Tensor, times: Times) -> Tensor:
        if self.quiet or self.spec.zeroed_proportion == 0.0:
            return x
        masks = [self._mask(x.shape[0]) for _ in range(x.shape[1])]
        mask = torch.stack(masks, dim=1).to(device=x.device, dtype=x.dtype)
        return x * mask.unsqueeze(-1)

    def _mask(self, frames: int) -> Tensor:
        z = self.spec.zeroed_proportion
        longest = self.spec.time_mask_max_frames
        kept_longest = max(1, int(longest * (1.0 - z) / z))
        mask = torch.ones(frames)
        t = 0
        zeroed_next = torch.rand(()).item() >= z
        while t < frames:
            most = longest if zeroed_next else kept_longest
            length = int(torch.randint(1, most + 1, ()).item())
            if zeroed_next:
                mask[t : t + length] = 0.0
            t += length
            zeroed_next = not zeroed_next
        return mask


@implements("DropoutMaskComponent")
class DropoutMask(RandomModule):
    """Rows of zeros and ones, which other components multiply by; in test mode their means.

    Of two or three columns, the masks of an LSTM's gates, the first two are zero for the two ends
    of the same uniform number, so that they are not both zero up to a proportion of one half.
    """

    def forward(self, x: Tensor, times: Times) -> Tensor:
        columns = self.spec.output_dim
        shape = (*x.shape[:-1], columns)
        if self.proportion == 0.0 or self.quiet:
            return x.new_full(shape, 1.0 if self.spec.continuous else 1.0 - self.proportion)
        uniform = torch.rand(shape, dtype=x.dtype, device=x.device)
        p = number(self._proportion)
        if self.spec.continuous:
            return uniform * (4.0 * p) + (1.0 - 2.0 * p)
        if columns in (2, 3):
            uniform[..., 1] = 1.0 - uniform[..., 0]
        return (uniform > p).to(x.dtype)
