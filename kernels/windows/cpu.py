"""Sums of rows and of their squares in float64 on a CPU, in one pass: cpu.cpp."""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.native import Address, Double, Int, NativeFunction, is_native, loaded

_PLACE = (Address, *(Int,) * 5)
"""x, its rows, floats between them, sequences, floats between those, columns."""

_window_sum = NativeFunction("window_sum", *_PLACE, Int, Address, Int)
_window_deviations = NativeFunction("window_deviations", *_PLACE, Double, Address, Int)


def native_sum(x: Tensor, squares: bool) -> Tensor | None:
    """The sum over rows, float64 `(batch, dim)`; None where there is no native code, or a graph.

    Args:
        x: float32 `(time, batch, dim)`.
        squares: behind the sums, those of the squares: `(batch, 2 dim)`.
    """
    if not _runs_natively(x):
        return None
    _, batch, dim = x.shape
    result = x.new_empty((batch, 2 * dim if squares else dim), dtype=torch.float64)
    _window_sum(*_place(x), squares, result, torch.get_num_threads())
    return result


def native_deviations(x: Tensor, least: float) -> Tensor | None:
    """Means of rows, and standard deviations behind them, `(batch, 2 dim)`; None as above.

    Args:
        x: float32 `(time, batch, dim)`.
        least: variances below it are made it.
    """
    if not _runs_natively(x):
        return None
    _, batch, dim = x.shape
    result = x.new_empty((batch, 2 * dim))
    _window_deviations(*_place(x), least, result, torch.get_num_threads())
    return result


def _runs_natively(x: Tensor) -> bool:
    differentiable = torch.is_grad_enabled() and x.requires_grad
    return is_native(x) and not differentiable and loaded() is not None


def _place(x: Tensor) -> tuple[Tensor, int, int, int, int, int]:
    rows, batch, dim = x.shape
    return x, rows, x.stride(0), batch, x.stride(1), dim
