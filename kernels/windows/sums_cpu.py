"""Sums of rows and of their squares in float64 on a CPU, in one pass: window_sums_cpu.cpp."""

from __future__ import annotations

from ctypes import c_double, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from nnet.kernels.native import is_native, native_library


def native_sum(x: Tensor, squares: bool) -> Tensor | None:
    """The sum over rows, float64 `(batch, dim)`; None where there is no compiler or a graph.

    Args:
        x: float32 `(time, batch, dim)`.
        squares: behind the sums, those of the squares: `(batch, 2 dim)`.
    """
    if not is_native(x) or (torch.is_grad_enabled() and x.requires_grad):
        return None
    library = native_library("window_sums_cpu")
    if library is None:
        return None
    function: Any = library.window_sum
    function.argtypes = (c_void_p, *(c_int64,) * 6, c_void_p, c_int64)
    function.restype = None
    rows, batch, dim = x.shape
    result = x.new_empty((batch, 2 * dim if squares else dim), dtype=torch.float64)
    time, sequence = x.stride(0), x.stride(1)
    function(
        *(x.data_ptr(), rows, time, batch, sequence, dim, squares),
        *(result.data_ptr(), torch.get_num_threads()),
    )
    return result


def native_deviations(x: Tensor, least: float) -> Tensor | None:
    """Means of rows, and standard deviations behind them, `(batch, 2 dim)`; None as above.

    Args:
        x: float32 `(time, batch, dim)`.
        least: variances below it are made it.
    """
    if not is_native(x) or (torch.is_grad_enabled() and x.requires_grad):
        return None
    library = native_library("window_sums_cpu")
    if library is None:
        return None
    function: Any = library.window_deviations
    function.argtypes = (c_void_p, *(c_int64,) * 5, c_double, c_void_p, c_int64)
    function.restype = None
    rows, batch, dim = x.shape
    result = x.new_empty((batch, 2 * dim))
    function(
        *(x.data_ptr(), rows, x.stride(0), batch, x.stride(1), dim),
        *(least, result.data_ptr(), torch.get_num_threads()),
    )
    return result
