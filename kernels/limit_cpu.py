"""Limiting the norms of derivatives on a CPU, for steps of a loop: limit_cpu.cpp."""

from __future__ import annotations

from ctypes import Structure, c_float, c_int64, c_void_p

import torch
from torch import Tensor

from nnet.kernels.native_rows import Rows, address, over_rows

LIBRARY = "limit_cpu"


class _Limit(Structure):
    _fields_ = (
        ("batch", c_int64),
        ("dim", c_int64),
        ("gradient", Rows),
        ("target", Rows),
        ("boundaries", c_void_p),
        ("scale", c_float),
        ("clipping_threshold", c_float),
        ("zeroing_threshold", c_float),
        ("adds", c_int64),
        ("counts", c_void_p),
    )


class NativeLimit:
    """Rows of a derivative times `scale`, scaled down to a norm, or zero at boundaries.

    `limit(first, end)` does so with some of the rows.

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
        struct = _Limit(
            gradient.shape[1],
            gradient.shape[2],
            Rows.of(gradient),
            Rows.of(target),
            address(at),
            scale,
            clipping,
            zeroing,
            adds,
            address(self.counts),
        )
        tensors = (gradient, target, at, self.counts)
        self.limit = over_rows(LIBRARY, "limit_rows", struct, *tensors)
