"""Counts, sums and sums of squares over stretches of time, and what is made of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from nnet.kernels.implementation import Implementation
from nnet.kernels.windows import reference as kernels
from nnet.kernels.windows.cpu import native_deviations, native_sum
from nnet.kernels.windows.reference import Members
from nnet.modules.base import WindowModule
from nnet.modules.registry import implements
from nnet.plan.windows import WindowRows

BLOCK = 32
"""Frames that are made float64 at a time."""

CUMULATIVE = 8
"""How many times as many frames may be added up, window by window, before cumulative sums are less
work."""


def window_sums(
    x: Tensor,
    rows: WindowRows,
    implementation: Implementation,
    *,
    squares: bool = False,
) -> Tensor:
    """The sum over the rows that are there of each window, float64 (output times, batch, dim).

    Args:
        squares: of the rows' squares behind that of the rows, (output times, batch, 2 dim).
    """
    if implementation == "triton":
        return kernels.window_sums(x, members(rows), squares=squares, implementation=implementation)
    if rows.spans is None:
        return _scattered_sums(_powers(x, squares), rows)
    first, end = rows.spans
    if (end - first == 1).all():  # every window is one row
        return _powers(x.index_select(0, torch.from_numpy(first).to(x.device)), squares)
    if int((end - first).sum()) <= CUMULATIVE * len(x):
        spans = zip(first.tolist(), end.tolist(), strict=True)
        return torch.stack([_sum(x[a:b], squares, implementation) for a, b in spans])
    powers = _powers(x, squares)
    totals = torch.cat((powers.new_zeros((1, *powers.shape[1:])), powers.cumsum(dim=0)))
    before, until = (torch.from_numpy(place).to(x.device) for place in (first, end))
    return totals.index_select(0, until) - totals.index_select(0, before)


_MEMBERS: WeakIdKeyDictionary = WeakIdKeyDictionary()


def members(rows: WindowRows) -> Members:
    """The rows of windows as kernels take them; they are kept as long as the rows are."""
    known = _MEMBERS.get(rows)
    if known is None:
        if rows.spans is None:
            output, offset = np.nonzero(rows.index >= 0)
            taken = rows.index[output, offset]
            counts = np.bincount(output, minlength=rows.own.count)
        else:
            first, end = rows.spans
            counts = end - first
            taken = np.concatenate([np.arange(a, b) for a, b in zip(first, end, strict=True)])
        ends = torch.from_numpy(np.concatenate(([0], np.cumsum(counts))))
        known = _MEMBERS[rows] = Members(ends, torch.from_numpy(taken), rows.stored.count)
    return known


def _sum(x: Tensor, squares: bool, implementation: Implementation) -> Tensor:
    """The sum over rows, made float64 in blocks that stay in a cache."""
    native = native_sum(x, squares) if implementation == "native" else None
    if native is not None:
        return native
    parts = []
    for block in x.split(BLOCK):
        wide = block.double()
        total = wide.sum(dim=0)
        parts.append(torch.cat((total, wide.square().sum(dim=0)), dim=-1) if squares else total)
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(dim=0)


def _powers(x: Tensor, squares: bool) -> Tensor:
    wide = x.double()
    return torch.cat((wide, wide.square()), dim=-1) if squares else wide


def _scattered_sums(x: Tensor, rows: WindowRows) -> Tensor:
    output, offset = np.nonzero(rows.index >= 0)
    source = torch.from_numpy(rows.index[output, offset]).to(x.device)
    zeros = x.new_zeros((rows.own.count, *x.shape[1:]))
    return zeros.index_add(0, torch.from_numpy(output).to(x.device), x.index_select(0, source))


def window_counts(x: Tensor, rows: WindowRows) -> Tensor:
    """How many rows of each window are there, float64 (output times, batch, 1)."""
    if rows.spans is None:
        counts = (rows.index >= 0).sum(axis=1)
    else:
        first, end = rows.spans
        counts = end - first
    return torch.from_numpy(counts).to(x.device).double().view(-1, 1, 1).expand(-1, x.shape[1], -1)


@implements("StatisticsExtractionComponent")
class StatisticsExtraction(WindowModule):
    """Count, sum and sum of squares over the frames of a period; the count has no derivative."""

    def windowed(self, x: Tensor, rows: WindowRows) -> Tensor:
        sums = window_sums(x, rows, self.implementation, squares=self.spec.include_variance)
        return torch.cat((window_counts(x, rows), sums), dim=-1).to(x.dtype)


@implements("StatisticsPoolingComponent")
class StatisticsPooling(WindowModule):
    """Means and standard deviations; counts and the floor of variances have no derivative."""

    def windowed(self, x: Tensor, rows: WindowRows) -> Tensor:
        return pooled(window_sums(x, rows, self.implementation), self.spec, x.dtype)


@implements("PooledStatistics")
class PooledStatistics(WindowModule):
    """Both of the above in one pass over the frames."""

    def windowed(self, x: Tensor, rows: WindowRows) -> Tensor:
        statistics = self._of_one_window(x, rows)
        if statistics is not None:
            return statistics
        sums = window_sums(
            x, rows, self.implementation, squares=self.spec.extraction.include_variance
        )
        sums = torch.cat((window_counts(x, rows), sums), dim=-1)
        return pooled(sums, self.spec.pooling, x.dtype)

    def _of_one_window(self, x: Tensor, rows: WindowRows) -> Tensor | None:
        """In one pass, if there is one window of adjacent rows and deviations are wanted."""
        extraction, pooling = self.spec.extraction, self.spec.pooling
        wanted = extraction.include_variance and pooling.output_stddevs
        if not (wanted and self.implementation == "native"):
            return None
        if rows.spans is None or len(rows.spans[0]) != 1:
            return None
        first, end = (int(places[0]) for places in rows.spans)
        statistics = native_deviations(x[first:end], pooling.variance_floor)
        if statistics is None or not pooling.num_log_count_features:
            return statistics if statistics is None else statistics.unsqueeze(0)
        logs = statistics.new_full(
            (len(statistics), pooling.num_log_count_features), math.log(end - first)
        )
        return torch.cat((logs, statistics), dim=-1).unsqueeze(0)


def pooled(sums: Tensor, spec: Any, dtype: torch.dtype) -> Tensor:
    """What nnet3's StatisticsPooling makes of counts, sums and sums of squares.

    Args:
        sums: float64 (output times, batch, 1 + columns).
        dtype: of the result.
    """
    counts = sums[..., :1].detach()
    means = (sums[..., 1:] / counts).to(dtype)
    if spec.output_stddevs:
        means = _with_stddevs(means, spec)
    logs = counts.log().expand(*counts.shape[:-1], spec.num_log_count_features)
    return torch.cat((logs.to(dtype), means), dim=-1)


def _with_stddevs(means: Tensor, spec: Any) -> Tensor:
    """Means of values and of squares, made means and standard deviations.

    Both are rounded before, so that equal frames have a variance of zero and not of what rounding
    one of them leaves.
    """
    mean, square = means.split(spec.feature_dim, dim=-1)
    variance = square - mean.square()
    floored = variance.detach().clamp_min(spec.variance_floor)
    variance = variance + (floored - variance.detach())
    return torch.cat((mean, variance.sqrt()), dim=-1)
