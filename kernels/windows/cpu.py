"""Sums of rows and of their squares in float64 on a CPU, in one pass: cpu.cpp."""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.native import Address, Double, Int, NativeFunction, is_traceable, native_operator

_PLACE = (Address, *(Int,) * 5)
"""x, its rows, floats between them, sequences, floats between those, columns."""

_window_sum = NativeFunction("window_sum", *_PLACE, Int, Address, Int)
_window_deviations = NativeFunction("window_deviations", *_PLACE, Double, Address, Int)


def _fake_sum(x: Tensor, squares: bool) -> Tensor:
    shape = (x.shape[1], x.shape[2] * (1 + squares))
    return x.new_empty(shape, dtype=torch.float64)


@native_operator("window_sum(Tensor x, bool squares) -> Tensor", _fake_sum)
def _sum(x: Tensor, squares: bool) -> Tensor:
    result = _fake_sum(x, squares)
    _window_sum(*_place(x), squares, result, torch.get_num_threads())
    return result


def _fake_deviations(x: Tensor, least: float) -> Tensor:
    return x.new_empty((x.shape[1], 2 * x.shape[2]))


@native_operator("window_deviations(Tensor x, float least) -> Tensor", _fake_deviations)
def _deviations(x: Tensor, least: float) -> Tensor:
    result = _fake_deviations(x, least)
    _window_deviations(*_place(x), least, result, torch.get_num_threads())
    return result


def native_sum(x: Tensor, squares: bool) -> Tensor | None:
    """The sum over rows, float64 `(batch, dim)`; None where there is no native code, or a graph.

    Args:
        x: float32 `(time, batch, dim)`.
        squares: behind the sums, those of the squares: `(batch, 2 dim)`.
    """
    return _sum(x, squares) if _runs_natively(x) else None


def native_deviations(x: Tensor, least: float) -> Tensor | None:
    """Means of rows, and standard deviations behind them, `(batch, 2 dim)`; None as above.

    Args:
        x: float32 `(time, batch, dim)`.
        least: variances below it are made it.
    """
    return _deviations(x, least) if _runs_natively(x) else None


def _runs_natively(x: Tensor) -> bool:
    differentiable = torch.is_grad_enabled() and x.requires_grad
    return not differentiable and is_traceable(x)


def _place(x: Tensor) -> tuple[Tensor, int, int, int, int, int]:
    rows, batch, dim = x.shape
    return x, rows, x.stride(0), batch, x.stride(1), dim
