"""Scaling of blocks of columns to a given root-mean-square: nnet3's NormalizeComponent (renorm).

For a block x of `block_dim` columns, with power p = max(mean(x^2) / target_rms^2, 2^-66):

y = x / sqrt(p), and with `add_log_stddev` one more column: log(target_rms sqrt(p)).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nnet.kernels.implementation import Implementation, triton_file, uses_triton

POWER_FLOOR = 2.0**-66


def renorm(
    x: Tensor,
    block_dim: int,
    target_rms: float = 1.0,
    add_log_stddev: bool = False,
    *,
    implementation: Implementation = "reference",
) -> Tensor:
    """The formula above, for each row `(..., blocks * block_dim)`.

    Returns:
        `(..., blocks * block_dim)`, or `(..., blocks * (block_dim + 1))` with the logs.
    """
    if uses_triton(implementation, x):
        result: Tensor = _Renorm.apply(x, block_dim, target_rms, add_log_stddev)
        return result
    blocks = x.unflatten(-1, (-1, block_dim))
    power = blocks.square().mean(dim=-1, keepdim=True) / target_rms**2
    power = power.clamp_min(POWER_FLOOR)
    result = blocks * power.rsqrt()
    if add_log_stddev:
        result = torch.cat((result, (power * target_rms**2).log() * 0.5), dim=-1)
    return result.flatten(-2)


def renorm_gradient(
    x: Tensor,
    gradient: Tensor,
    block_dim: int,
    target_rms: float = 1.0,
    add_log_stddev: bool = False,
    *,
    implementation: Implementation = "reference",
) -> Tensor:
    """The derivative with respect to `x`, given that for the result: nnet3's Backprop, without a
    graph."""
    if uses_triton(implementation, x, gradient):
        backward = triton_file("normalization.gpu.renorm").renorm_backward
        of_input: Tensor = backward(x, gradient, block_dim, target_rms, add_log_stddev)
        return of_input
    blocks = x.unflatten(-1, (-1, block_dim))
    power = blocks.square().mean(dim=-1, keepdim=True) / target_rms**2
    varies = (power > POWER_FLOOR).to(x.dtype)
    power = power.clamp_min(POWER_FLOOR)
    parts = gradient.unflatten(-1, (blocks.shape[-2], -1))
    of_rows = parts[..., :block_dim]
    # of the objective by half of p, over the derivative of p
    of_power = -(of_rows * blocks).sum(dim=-1, keepdim=True) * power.rsqrt()
    if add_log_stddev:
        of_power = of_power + parts[..., block_dim:]
    scale = varies * of_power / (power * (block_dim * target_rms**2))
    return torch.addcmul(of_rows * power.rsqrt(), blocks, scale).flatten(-2)


class _Renorm(Function):
    """Renormalisation of blocks by Triton kernels, with a derivative."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, block_dim: int, target_rms: float, add_log_stddev: bool
    ) -> Tensor:
        forward = triton_file("normalization.gpu.renorm").renorm_forward
        ctx.save_for_backward(x)
        ctx.options = (block_dim, target_rms, add_log_stddev)
        result: Tensor = forward(x, *ctx.options)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        of_input = renorm_gradient(x, gradient, *ctx.options, implementation="triton")
        return of_input, None, None, None
