"""Limiting the norms of derivatives on a CPU, for steps of a loop: limit_cpu.cpp."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import POINTER, c_float, c_int64, c_void_p

import torch
from torch import Tensor

from nnet.kernels.native import Struct, adjacent
from nnet.kernels.native_rows import RowAddresses, over_rows

LIBRARY = "limit_cpu"


class _LimitTarget(Struct):
    _fields_ = (("rows", RowAddresses), ("dim", c_int64), ("adds", c_int64))


class _Limit(Struct):
    _fields_ = (
        ("threads", c_int64),
        ("batch", c_int64),
        ("dim", c_int64),
        ("gradient", RowAddresses),
        ("targets", c_int64),
        ("target", POINTER(_LimitTarget)),
        ("boundaries", c_void_p),
        ("scale", c_float),
        ("clipping_threshold", c_float),
        ("zeroing_threshold", c_float),
        ("counts", c_void_p),
    )


class NativeLimit:
    """Rows of a derivative times `scale`, scaled down to a norm, or zero at boundaries.

    `limit(first, end)` does so with some of the rows.

    Args:
        gradient: (time, batch, dim).
        targets: where it goes, in blocks of columns, (time, batch, dim_i).
        boundaries: (time, batch), bool: where rows longer than `zeroing` become zero.
        clipping: the largest norm.
        adds: for each target whether the result is added to it or written there.
    """

    def __init__(
        self,
        gradient: Tensor,
        targets: Sequence[Tensor],
        boundaries: Tensor | None,
        *,
        scale: float,
        clipping: float,
        zeroing: float,
        adds: Sequence[bool],
    ) -> None:
        at = None if boundaries is None else boundaries.to(torch.uint8).contiguous()
        threads = torch.get_num_threads()
        self._counts = torch.zeros((threads, 2), dtype=torch.int64)
        parts = [
            _LimitTarget(RowAddresses.of(x), x.shape[2], a)
            for x, a in zip(targets, adds, strict=True)
        ]
        struct = _Limit(
            threads,
            gradient.shape[1],
            gradient.shape[2],
            RowAddresses.of(gradient),
            len(parts),
            adjacent(parts),
            at,
            scale,
            clipping,
            zeroing,
            self._counts,
        )
        self.limit = over_rows("limit_rows", struct)

    @property
    def counts(self) -> tuple[int, int]:
        """Rows that were scaled down, and rows that were set to zero, so far."""
        clipped, zeroed = self._counts.sum(dim=0).tolist()
        return clipped, zeroed
