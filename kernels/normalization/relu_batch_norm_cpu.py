"""Passes over blocks of rows of a rectified linear unit with batch-norm behind it, on a CPU.

    z = max(x + bias, 0)     y = (z - mean) scale + bypass_scale bypass

Each pass does all that there is to do while a row is in the cache: in C++
(relu_batch_norm_cpu.cpp) in float32, and by torch's operations where there is no compiler and in
other types. Matrices are `(rows, dim)`, contiguous; sums over rows are float64 and are added to
what is there. What the passes belong to is in `nnet.kernels.normalization.affine_batch_norm`.
"""

from __future__ import annotations

import functools
from ctypes import CDLL, c_float, c_int64, c_void_p

import torch
from torch import Tensor

from nnet.kernels.native import is_native, native_library


@functools.cache
def _library() -> CDLL | None:
    library = native_library("relu_batch_norm_cpu")
    if library is not None:
        sizes = (c_int64, c_int64, c_int64)  # rows, dim, threads
        library.relu_sums.argtypes = (*(c_void_p,) * 3, *sizes, c_void_p)
        library.normalize.argtypes = (*(c_void_p,) * 4, *(c_int64,) * 3, c_float, c_void_p, *sizes)
        library.gradient_sums.argtypes = (*(c_void_p,) * 3, *sizes, c_void_p)
        library.input_gradient.argtypes = (*(c_void_p,) * 8, *sizes, c_void_p)
        library.powers.argtypes = (c_void_p, *sizes, c_void_p)
        for name in ("relu_sums", "normalize", "gradient_sums", "input_gradient", "powers"):
            getattr(library, name).restype = None
    return library


def _native(*tensors: Tensor | None) -> CDLL | None:
    """The library, if it can compute with these tensors."""
    usable = all(tensor is None or is_native(tensor) for tensor in tensors)
    return _library() if usable else None


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _sizes(matrix: Tensor) -> tuple[int, int, int]:
    return (*matrix.shape, torch.get_num_threads())


def relu_sums(x: Tensor, bias: Tensor | None, z: Tensor, sums: Tensor) -> None:
    """Writes z, which may be x, and adds up what batch-norm and the unit's statistics need.

    Args:
        x, z: `(rows, dim)`.
        bias: `(dim,)` or None.
        sums: `(3, dim)`, of z, of its square, and of z > 0.
    """
    library = _native(x, bias, z)
    if library is not None:
        library.relu_sums(_at(x), _at(bias), _at(z), *_sizes(x), _at(sums))
        return
    torch.clamp_min(x if bias is None else x + bias, 0, out=z)
    wide = z.double()
    sums[0] += wide.sum(0)
    sums[1] += wide.square().sum(0)
    sums[2] += (z > 0).sum(0)


def normalize(
    z: Tensor, mean: Tensor, scale: Tensor, bypass: Tensor | None, bypass_scale: float, y: Tensor
) -> None:
    """Writes y.

    Args:
        z, y: `(rows, dim)`.
        mean, scale: `(dim,)`.
        bypass: `(times, batch, dim)` with as many rows, or None.
    """
    library = _native(z, mean, scale, bypass, y)
    if library is not None:
        batch, time, sequence = 1, 0, 0
        if bypass is not None:
            batch, time, sequence = bypass.shape[1], bypass.stride(0), bypass.stride(1)
        where = (_at(bypass), batch, time, sequence, bypass_scale)
        library.normalize(_at(z), _at(mean), _at(scale), *where, _at(y), *_sizes(z))
        return
    torch.sub(z, mean, out=y)
    y.mul_(scale)
    if bypass is not None:
        y.view(bypass.shape).add_(bypass, alpha=bypass_scale)


def gradient_sums(gradient: Tensor, z: Tensor, mean: Tensor, sums: Tensor) -> None:
    """Adds to sums `(2, dim)` of the gradient for y, and of its products with z - mean."""
    library = _native(gradient, z, mean)
    if library is not None:
        library.gradient_sums(_at(gradient), _at(z), _at(mean), *_sizes(z), _at(sums))
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
) -> None:
    """From the gradient for y to that for x: of d = scale (gradient - average - (z - mean) product)
    what passes the unit, plus repair.

    Args:
        gradient, z, target: `(rows, dim)`; the result is written to `target`.
        vectors: mean, scale, average, product and repair, `(dim,)`.
        sums: `(3, dim)`, of the result, of its square, and of the square of d.
    """
    library = _native(gradient, z, *vectors, target)
    if library is not None:
        given = (_at(gradient), _at(z), *map(_at, vectors))
        library.input_gradient(*given, _at(target), *_sizes(z), _at(sums))
        return
    mean, scale, average, product, repair = vectors
    d = (gradient - average - (z - mean) * product) * scale
    torch.add(d.masked_fill(z <= 0, 0.0), repair, out=target)
    sums[0] += target.double().sum(0)
    sums[1] += target.double().square().sum(0)
    sums[2] += d.double().square().sum(0)


def powers(x: Tensor) -> Tensor:
    """The sums of squares of `x[0]`, `x[1]`, ..., float64; x may be strided."""
    x = x.contiguous()
    library = _native(x)
    if library is None:
        return x.double().square().flatten(1).sum(1)
    result = x.new_empty(len(x), dtype=torch.float64)
    library.powers(_at(x), *_sizes(x.flatten(1)), _at(result))
    return result
