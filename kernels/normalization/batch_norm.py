"""Batch normalisation by a minibatch's statistics, as nnet3 has it, with what stands around it.

z = relu(x) or x; mean and variance are those of the columns of z over all rows;
y = target_rms (z - mean) / sqrt(variance + epsilon) + bypass_scale bypass.

The torch code below is the reference and the CPU path; the kernels are in
`nnet.kernels.normalization.gpu.batch_norm`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from nnet.kernels.affine.terms import Term
from nnet.kernels.implementation import Implementation, triton_file, uses_triton
from nnet.kernels.normalization.affine_batch_norm import (
    Layer,
    Normalization,
    Watch,
    affine_batch_norm,
)


def batch_norm(
    x: Tensor,
    target_rms: float,
    epsilon: float,
    *,
    relu: bool = False,
    bypass: Tensor | None = None,
    bypass_scale: float = 1.0,
    watch: Watch | None = None,
    implementation: Implementation = "reference",
) -> tuple[Tensor, Tensor, Tensor]:
    """The formula above.

    Args:
        x: `(rows, dim)`.
        bypass: `(rows, dim)` or None.
        watch: of the rectified linear unit, if there is one: what it stores, and its self-repair.

    Returns:
        y `(rows, dim)`; mean and variance, float32 `(dim,)`, which have no derivative.
    """
    if uses_triton(implementation, x, bypass):
        options = _Options(target_rms, epsilon, relu, bypass_scale, watch)
        y, mean, variance = _BatchNorm.apply(options, x, bypass)
        return y, mean, variance
    if watch is not None:
        return _watched(
            x, Normalization(target_rms, epsilon, x.shape[1]), bypass, bypass_scale, watch
        )
    z = x.relu() if relu else x
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    scale = x.new_full((x.shape[1],), target_rms, dtype=wide)
    y, mean, inverse_stddev = torch.native_batch_norm(
        z, scale, None, None, None, True, 0.0, epsilon
    )
    variance = (inverse_stddev.detach().square().reciprocal() - epsilon).clamp_min_(0)
    if bypass is not None:
        y = torch.add(y, bypass, alpha=bypass_scale)
    return y, mean.detach(), variance


@torch.no_grad()
def merge_statistics(
    stored: tuple[Tensor, Tensor, Tensor],
    other: tuple[Tensor, Tensor],
    rows: int,
    *,
    implementation: Implementation = "reference",
) -> None:
    """Merges the statistics of two sets of rows (Chan, Golub & LeVeque 1983), in place.

    Rows whose statistics are not finite are not counted.

    Args:
        stored: count `()`, mean and variance `(dim,)` of the first set; will be those of both.
        other: mean and variance of the second set.
        rows: in the second set.
    """
    count, stored_mean, stored_variance = stored
    mean, variance = other
    if uses_triton(implementation, stored_mean, mean):
        merge = triton_file("normalization.gpu.batch_norm").merge
        merge(count, stored_mean, stored_variance, mean, variance, rows)
        return
    finite = (mean + variance).isfinite().all()
    counted = torch.where(finite, float(rows), 0.0)
    mean = torch.where(finite, mean, stored_mean)
    variance = torch.where(finite, variance, stored_variance)
    share = counted / (count + counted).clamp_min(1.0)
    difference = mean - stored_mean
    stored_variance += share * (variance - stored_variance)
    stored_variance += share * (1 - share) * difference.square()
    stored_mean += share * difference
    count += counted


def _watched(
    x: Tensor, norm: Normalization, bypass: Tensor | None, bypass_scale: float, watch: Watch
) -> tuple[Tensor, Tensor, Tensor]:
    """The watch of a unit, as `nnet.kernels.normalization.affine_batch_norm` has it, for a batch
    norm without an affine transform before it."""
    rows, dim = x.shape
    term = None if bypass is None else Term(0, 0, 1, rows, None, 0, dim, bypass_scale)
    beside = None if bypass is None else bypass.unsqueeze(1)
    layer = Layer(norm, bypass=term, watch=watch)
    y, statistics = affine_batch_norm(layer, [x.unsqueeze(1)], beside=beside)
    return y.squeeze(1), statistics.mean, statistics.variance


class _Options(NamedTuple):
    target_rms: float
    epsilon: float
    relu: bool
    bypass_scale: float
    watch: Watch | None


class _BatchNorm(Function):
    """ReLU, batch norm and bypass by Triton kernels, with derivatives."""

    @staticmethod
    def forward(
        ctx: Any, options: _Options, x: Tensor, bypass: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        forward = triton_file("normalization.gpu.batch_norm").batch_norm_forward
        *given, watch = options
        y, mean, variance, on = forward(x, bypass, *given)
        if watch is not None:
            watch.forward(mean.double() * len(x), on, len(x))
        ctx.save_for_backward(x, mean, variance)
        ctx.options = options
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
        backward = triton_file("normalization.gpu.batch_norm_gradient").batch_norm_backward
        x, mean, variance = ctx.saved_tensors
        target_rms, epsilon, relu, bypass_scale, watch = ctx.options
        of_input = None
        if ctx.needs_input_grad[1]:
            repair = None if watch is None else watch.repair()
            repair = None if repair is None else repair.float()
            settings = (target_rms, epsilon, relu, watch is not None)
            known = (gradient.contiguous(), x, mean, variance, repair)
            of_input, squares = backward(*known, *settings)
            if watch is not None:
                watch.backward(squares, len(x))
        of_bypass = gradient * bypass_scale if ctx.needs_input_grad[2] else None
        return None, of_input, of_bypass
