"""Passes over blocks of rows of a rectified linear unit with batch-norm behind it, on a CPU.

    z = max(x + bias, 0)     y = (z - mean) scale + bypass_scale bypass

Each pass does all that there is to do while a row is in the cache: as `native` in C++
(relu_batch_norm.cpp), in float32, as `reference` by torch's operations. Matrices are
`(rows, dim)`, contiguous; sums over rows are float64 and are added to what is there. What the
passes belong to is in `nnet.kernels.normalization.affine_batch_norm`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.implementation import Implementation
from nnet.kernels.native import Address, Float, Int, NativeFunction, is_native, loaded

_SIZES = (Int, Int, Int)
"""Rows, columns, threads."""

_relu_sums = NativeFunction("relu_sums", *(Address,) * 3, *_SIZES, Address)
_normalize = NativeFunction("normalize", *(Address,) * 4, *(Int,) * 3, Float, Address, *_SIZES)
_gradient_sums = NativeFunction("gradient_sums", *(Address,) * 3, *_SIZES, Address)
_input_gradient = NativeFunction("input_gradient", *(Address,) * 8, *_SIZES, Address)


def _runs_natively(implementation: Implementation, *tensors: Tensor | None) -> bool:
    usable = all(tensor is None or is_native(tensor) for tensor in tensors)
    return implementation == "native" and usable and loaded() is not None


def _sizes(matrix: Tensor) -> tuple[int, int, int]:
    return (*matrix.shape, torch.get_num_threads())


def relu_sums(
    x: Tensor,
    bias: Tensor | None,
    z: Tensor,
    sums: Tensor,
    implementation: Implementation = "reference",
) -> None:
    """Writes z, which may be x, and adds up what batch-norm and the unit's statistics need.

    Args:
        x, z: `(rows, dim)`.
        bias: `(dim,)` or None.
        sums: `(3, dim)`, of z, of its square, and of z > 0.
    """
    if _runs_natively(implementation, x, bias, z):
        _relu_sums(x, bias, z, *_sizes(x), sums)
        return
    torch.clamp_min(x if bias is None else x + bias, 0, out=z)
    wide = z.double()
    sums[0] += wide.sum(0)
    sums[1] += wide.square().sum(0)
    sums[2] += (z > 0).sum(0)


def normalize(
    z: Tensor,
    mean: Tensor,
    scale: Tensor,
    bypass: Tensor | None,
    bypass_scale: float,
    y: Tensor,
    implementation: Implementation = "reference",
) -> None:
    """Writes y.

    Args:
        z, y: `(rows, dim)`.
        mean, scale: `(dim,)`.
        bypass: `(times, batch, dim)` with as many rows, or None.
    """
    if _runs_natively(implementation, z, mean, scale, bypass, y):
        batch, time, sequence = 1, 0, 0
        if bypass is not None:
            batch, time, sequence = bypass.shape[1], bypass.stride(0), bypass.stride(1)
        where = (bypass, batch, time, sequence, bypass_scale)
        _normalize(z, mean, scale, *where, y, *_sizes(z))
        return
    torch.sub(z, mean, out=y)
    y.mul_(scale)
    if bypass is not None:
        y.view(bypass.shape).add_(bypass, alpha=bypass_scale)


def gradient_sums(
    gradient: Tensor,
    z: Tensor,
    mean: Tensor,
    sums: Tensor,
    implementation: Implementation = "reference",
) -> None:
    """Adds to sums `(2, dim)` of the derivative with respect to y, and of its products with z -
    mean."""
    if _runs_natively(implementation, gradient, z, mean):
        _gradient_sums(gradient, z, mean, *_sizes(z), sums)
        return
    wide = gradient.double()
    sums[0] += wide.sum(0)
    sums[1] += (wide * (z - mean)).sum(0)


def input_gradient(
    gradient: Tensor,
    z: Tensor,
    vectors: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    target: Tensor,
    sums: Tensor,
    implementation: Implementation = "reference",
) -> None:
    """The derivative with respect to x from that with respect to y: of d = scale (gradient -
    average - (z - mean) product) what passes the unit, plus repair."""
    if _runs_natively(implementation, gradient, z, *vectors, target):
        _input_gradient(gradient, z, *vectors, target, *_sizes(z), sums)
        return
    mean, scale, average, product, repair = vectors
    d = (gradient - average - (z - mean) * product) * scale
    torch.add(d.masked_fill(z <= 0, 0.0), repair, out=target)
    sums[0] += target.double().sum(0)
    sums[1] += target.double().square().sum(0)
    sums[2] += d.double().square().sum(0)
