"""The unit-by-unit part of LSTMs on a CPU, for steps of a loop: lstm_cpu.cpp.

    i = sigmoid(x_i + w_i c')    f = sigmoid(x_f + w_f c')    g = tanh(x_c)
    c = d_f f c' + d_i i g       o = sigmoid(x_o + w_o c)     m = tanh(c)      y = d_o o m

with x = [x_i, x_f, x_c, x_o, c'] (and dropout masks d_i, d_f, d_o) to [c, y]: nnet3's
LstmNonlinearityComponent. One pass over memory forward and one back, in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import Structure, addressof, c_float, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from nnet.kernels.native import is_native, native_library


class _Rows(Structure):
    _fields_ = (("data", c_void_p), ("time", c_int64), ("batch", c_int64))


class _Lstm(Structure):
    _fields_ = (
        ("threads", c_int64),
        ("batch", c_int64),
        ("cells", c_int64),
        ("masked", c_int64),
        ("weights", c_void_p),
        ("input", _Rows),
        ("output", _Rows),
        ("kept", c_void_p),
    )


class _LstmDerivative(Structure):
    _fields_ = (
        ("forward", _Lstm),
        ("gradient", _Rows),
        ("target", _Rows),
        ("repair", c_void_p),
        ("sums", c_void_p),
        ("scratch", c_void_p),
    )


class _Limit(Structure):
    _fields_ = (
        ("batch", c_int64),
        ("dim", c_int64),
        ("gradient", _Rows),
        ("target", _Rows),
        ("boundaries", c_void_p),
        ("scale", c_float),
        ("clipping_threshold", c_float),
        ("zeroing_threshold", c_float),
        ("adds", c_int64),
        ("counts", c_void_p),
    )


def runs_natively(*tensors: Tensor) -> bool:
    """Whether tensors are float32 on a CPU with adjacent columns, and a compiler is there."""
    return all(map(is_native, tensors)) and native_library("lstm_cpu") is not None


class NativeLstm:
    """The cells of all rows.

    Args:
        x: (time, batch, 5 cells), with dropout masks (time, batch, 5 cells + 3).
        out: (time, batch, 2 cells).
        weights: peepholes of i, f and o, (3, cells).
        keep: whether the derivative is wanted afterwards.
    """

    def __init__(self, x: Tensor, weights: Tensor, out: Tensor, keep: bool) -> None:
        cells, batch = weights.shape[1], x.shape[1]
        self.kept = x.new_empty((x.shape[0], batch, 5, cells)) if keep else None
        self.tensors = (x, weights.contiguous(), out)
        self.struct = _Lstm(
            torch.get_num_threads(),
            batch,
            cells,
            x.shape[2] > 5 * cells,
            self.tensors[1].data_ptr(),
            _rows(x),
            _rows(out),
            None if self.kept is None else self.kept.data_ptr(),
        )
        self._forward = _function("lstm_forward")
        self._address = addressof(self.struct)

    def forward(self, first: int, end: int) -> None:
        """Rows `first` up to `end`."""
        self._forward(self._address, first, end)


class NativeLstmDerivative:
    """The derivative of `forward`, whose rows were kept.

    Args:
        gradient: for the output, (time, batch, 2 cells).
        target: is overwritten with the gradient for the input.
        repair: self-repair's scales of i, f, c, o and m, (5, cells).

    Attributes:
        sums: the gradient for the peepholes so far, (3, cells), float64.
    """

    def __init__(
        self, forward: NativeLstm, gradient: Tensor, target: Tensor, repair: Tensor | None
    ) -> None:
        weights = forward.tensors[1]
        self.sums = torch.zeros(weights.shape, dtype=torch.float64)
        repair = None if repair is None else repair.to(torch.float32).contiguous()
        scratch = weights.new_empty((forward.struct.threads, *weights.shape))
        self.tensors = (forward, gradient, target, repair, scratch)
        self.struct = _LstmDerivative(
            forward.struct,
            _rows(gradient),
            _rows(target),
            None if repair is None else repair.data_ptr(),
            self.sums.data_ptr(),
            scratch.data_ptr(),
        )
        self._backward = _function("lstm_backward")
        self._address = addressof(self.struct)

    def backward(self, first: int, end: int) -> None:
        """Rows `first` up to `end`."""
        self._backward(self._address, first, end)


class NativeLimit:
    """Rows of a derivative times `scale`, scaled down to a norm, or zero at boundaries.

    Args:
        gradient, target: (time, batch, dim).
        boundaries: (time, batch), bool: where rows longer than `zeroing` become zero.
        clipping: the largest norm.
        adds: whether the result is added to `target` or written there.

    Attributes:
        counts: rows that were scaled down, and rows that were set to zero, so far.
    """

    def __init__(
        self,
        gradient: Tensor,
        target: Tensor,
        boundaries: Tensor | None,
        *,
        scale: float,
        clipping: float,
        zeroing: float,
        adds: bool,
    ) -> None:
        at = None if boundaries is None else boundaries.to(torch.uint8).contiguous()
        self.counts = torch.zeros(2, dtype=torch.int64)
        self.tensors = (gradient, target, at)
        self.struct = _Limit(
            gradient.shape[1],
            gradient.shape[2],
            _rows(gradient),
            _rows(target),
            None if at is None else at.data_ptr(),
            scale,
            clipping,
            zeroing,
            adds,
            self.counts.data_ptr(),
        )
        self._limit = _function("limit_rows")
        self._address = addressof(self.struct)

    def limit(self, first: int, end: int) -> None:
        """Rows `first` up to `end`."""
        self._limit(self._address, first, end)


def step_ranges(rows: Tensor, parts: Sequence[Tensor]) -> list[tuple[int, int]]:
    """From views of rows of each step to the first row and the row after the last."""
    start, stride = rows.storage_offset(), rows.stride(0)
    firsts = [(part.storage_offset() - start) // stride for part in parts]
    return [(first, first + len(part)) for first, part in zip(firsts, parts, strict=True)]


def _rows(x: Tensor) -> _Rows:
    return _Rows(x.data_ptr(), x.stride(0), x.stride(1))


def _function(name: str) -> Callable[[int, int, int], None]:
    """A function of a structure's address and a range of rows."""
    library = native_library("lstm_cpu")
    assert library is not None
    function: Any = getattr(library, name)
    function.argtypes = (c_void_p, c_int64, c_int64)
    function.restype = None
    made: Callable[[int, int, int], None] = function
    return made
