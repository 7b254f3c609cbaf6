"""Counts, sums and sums of squares over stretches of time, and what is made of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nnet.modules.registry import WindowModule, implements
from nnet.plan.windows import WindowRows


def window_sums(x: Tensor, rows: WindowRows) -> Tensor:
    """The sum over the rows that are there of each window, float64 (output times, batch, dim)."""
    if rows.spans is None:
        output, offset = np.nonzero(rows.index >= 0)
        source = torch.from_numpy(rows.index[output, offset]).to(x.device)
        zeros = x.new_zeros((rows.own.count, *x.shape[1:]), dtype=torch.float64)
        target = torch.from_numpy(output).to(x.device)
        return zeros.index_add(0, target, x.index_select(0, source).double())
    first, end = (torch.from_numpy(place).to(x.device) for place in rows.spans)
    totals = x.cumsum(dim=0, dtype=torch.float64)
    totals = torch.cat((totals.new_zeros((1, *x.shape[1:])), totals))
    return totals.index_select(0, end) - totals.index_select(0, first)


@implements("StatisticsExtractionComponent")
class StatisticsExtraction(WindowModule):
    """Count, sum and sum of squares over the frames of a period; the count has no derivative."""

    def windowed(self, x: Tensor, rows: WindowRows) -> Tensor:
        ones = x.new_ones((x.shape[0], 1, 1))
        parts = [window_sums(ones, rows).expand(-1, x.shape[1], -1), window_sums(x, rows)]
        if self.spec.include_variance:
            parts.append(window_sums(x.double().square(), rows))
        return torch.cat(parts, dim=-1).to(x.dtype)


@implements("StatisticsPoolingComponent")
class StatisticsPooling(WindowModule):
    """Means and standard deviations; counts and the floor of variances have no derivative."""

    def windowed(self, x: Tensor, rows: WindowRows) -> Tensor:
        sums = window_sums(x, rows)
        counts = sums[..., :1].detach()
        means = (sums[..., 1:] / counts).to(x.dtype)
        if self.spec.output_stddevs:
            means = self._with_stddevs(means)
        logs = counts.log().expand(*counts.shape[:-1], self.spec.num_log_count_features)
        return torch.cat((logs.to(x.dtype), means), dim=-1)

    def _with_stddevs(self, means: Tensor) -> Tensor:
        """Means of values and of squares, made means and standard deviations.

        Both are rounded before, so that equal frames have a variance of zero and not of what
        rounding one of them leaves.
        """
        mean, square = means.split(self.spec.feature_dim, dim=-1)
        variance = square - mean.square()
        floored = variance.detach().clamp_min(self.spec.variance_floor)
        variance = variance + (floored - variance.detach())
        return torch.cat((mean, variance.sqrt()), dim=-1)
