"""Batch normalisation by a minibatch's statistics, as nnet3 has it, with what stands around it.

z = relu(x) or x; mean and variance are those of the columns of z over all rows;
y = target_rms (z - mean) / sqrt(variance + epsilon) + bypass_scale bypass.

The torch code below is the reference and the CPU path; the kernels are in
`nnet.kernels.gpu.batch_norm`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nnet.kernels.implementation import Implementation, uses_triton


def batch_norm(
    x: Tensor,
    target_rms: float,
    epsilon: float,
    *,
    relu: bool = False,
    bypass: Tensor | None = None,
    bypass_scale: float = 1.0,
    implementation: Implementation = "reference",
) -> tuple[Tensor, Tensor, Tensor]:
    """The formula above.

    Args:
        x: `(rows, dim)`.
        bypass: `(rows, dim)` or None.

    Returns:
        y `(rows, dim)`; mean and variance, float32 `(dim,)`, which have no derivative.
    """
    if uses_triton(implementation, x, bypass):
        y, mean, variance = _BatchNorm.apply(x, bypass, target_rms, epsilon, relu, bypass_scale)
        return y, mean, variance
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
    found: tuple[Tensor, Tensor],
    rows: int,
    *,
    implementation: Implementation = "reference",
) -> None:
    """Merges the statistics of two sets of rows (Chan, Golub & LeVeque 1983), in place.

    Rows whose statistics are not finite are not counted.

    Args:
        stored: count `()`, mean and variance `(dim,)` of the first set; will be those of both.
        found: mean and variance of the second set.
        rows: in the second set.
    """
    count, stored_mean, stored_variance = stored
    mean, variance = found
    if uses_triton(implementation, stored_mean, mean):
        from nnet.kernels.gpu.batch_norm import merge

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


class _BatchNorm(Function):
    """Our kernels."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bypass: Tensor | None,
        target_rms: float,
        epsilon: float,
        relu: bool,
        bypass_scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        from nnet.kernels.gpu.batch_norm import forward

        y, mean, variance = forward(x, bypass, target_rms, epsilon, relu, bypass_scale)
        ctx.save_for_backward(x, mean, variance)
        ctx.options = (target_rms, epsilon, relu)
        ctx.bypass_scale = bypass_scale
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
        from nnet.kernels.gpu.batch_norm_gradient import backward

        x, mean, variance = ctx.saved_tensors
        found = None
        if ctx.needs_input_grad[0]:
            found = backward(gradient.contiguous(), x, mean, variance, *ctx.options)
        of_bypass = gradient * ctx.bypass_scale if ctx.needs_input_grad[1] else None
        return found, of_bypass, None, None, None, None
