"""Spliced affine transforms for inference on a CPU, in C++ on weights packed beforehand.

The same formula as `nnet.kernels.affine.spliced`, without a derivative, in float32. A tile of the
result is summed over all terms in registers, from rows where they lie and weights in the order in
which they are read; it is finished (bias, ReLU, scales, offsets, bypass) and stored once, while
the next weights are fetched: packed.cpp and packed_amx.cpp.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from ctypes import POINTER, c_double, c_int64, c_void_p

import numpy as np
import torch
from torch import Tensor

from nnet.kernels.native import Int, NativeFunction, Struct, Table, has_matrix_units, loaded

ACTIVATIONS = ("", "relu")
"""What rows are finished with."""

LINE = 16
"""Floats in a cache line."""

SIDE, STEP = 16, 32
"""Of matrix units: rows and columns of a register; columns of rows that are multiplied at once."""

SHELF = 1 << 22
"""Floats of a piece of memory that weights are put into."""


class PackedTerm(Struct):
    """One term of a transform as C++ reads it: rows that are multiplied with rows `begin` up to
    `end` of the weight. Row i of group g begins at `rows + 4 (g group + i stride)`."""

    _fields_ = (
        ("rows", c_void_p),
        *((name, c_int64) for name in ("group", "stride", "begin", "end")),
    )


class Bypass(Struct):
    """A bypass as C++ reads it: rows that are added to the result, times `scale`."""

    _fields_ = (
        ("rows", c_void_p),
        *((name, c_int64) for name in ("group", "stride")),
        ("scale", c_double),
    )


class Affine(Struct):
    """One spliced affine transform as C++ reads it; packed.h says what each member is."""

    _fields_ = (
        *((name, c_int64) for name in ("groups", "rows", "columns", "depth", "terms", "bypasses")),
        ("term", POINTER(PackedTerm)),
        *((name, c_void_p) for name in ("weight", "bias")),
        *((name, c_int64) for name in ("bias_group", "bias_stride", "period", "relu")),
        *((name, c_void_p) for name in ("scales", "offsets")),
        ("bypass", POINTER(Bypass)),
        ("out", c_void_p),
        *((name, c_int64) for name in ("group", "stride")),
    )


_run_affines = NativeFunction("run_affines", Table, Int, Int, tables=(Affine,))
_run_affines_by_units = NativeFunction("run_affines_by_units", Table, Int, Int, tables=(Affine,))
_panel_columns = NativeFunction("panel_columns", result=c_int64)


def table_of(structure: type[Struct]) -> np.dtype[np.void]:
    """numpy's type for tables of one of these structures; pointers are addresses, int64."""
    names = [name for name, *_ in structure._fields_]
    kinds = ["f8" if kind is c_double else "i8" for _, kind, *_ in structure._fields_]
    return np.dtype(list(zip(names, kinds, strict=True)))


def can_pack(activation: str = "") -> bool:
    """Whether there is native code, and rows can be finished with the activation."""
    return activation in ACTIVATIONS and loaded() is not None


has_bf16_units = has_matrix_units


def pack(blocks: Sequence[Tensor], *, bf16: bool = False) -> Tensor:
    """Weights of terms, `(term.dim, dim)` each, in panels of columns.

    Each panel is read from its beginning to its end; the last one is filled up with zeros.

    Args:
        bf16: for matrix units: each weight as two bfloat16 numbers, the second of them what is
            left of it by the first, in the order of the units' registers.
    """
    if bf16:
        return _shelved(_split_weights(blocks))
    width, columns = _panel_columns(), blocks[0].shape[1]
    whole, rest = divmod(columns, width)
    depth, panels = sum(map(len, blocks)), -(-columns // width)
    packed = _SHELVES.room(panels * depth * width).view(panels, depth, width)
    for block, part in zip(blocks, packed.split([*map(len, blocks)], dim=1), strict=True):
        full = block[:, : whole * width].unflatten(1, (whole, width))
        part[:whole].copy_(full.transpose(0, 1))
        if rest:
            part[whole, :, :rest].copy_(block[:, whole * width :])
            part[whole, :, rest:].zero_()
    return packed


def _split_weights(blocks: Sequence[Tensor]) -> Tensor:
    """Weights as float32 words of two bfloat16 numbers each. A panel is its steps; a step has first
    numbers, then what is left of them; each of these is two halves of the columns, and a half is
    pairs of rows."""
    padded = torch.cat([_padded(block, STEP, 2 * SIDE) for block in blocks])
    rounded = padded.bfloat16()
    numbers = torch.stack((rounded, (padded - rounded.float()).bfloat16()))
    parts = numbers.view(2, len(padded) // STEP, SIDE, 2, -1, 2, SIDE)
    return parts.permute(4, 1, 0, 5, 2, 6, 3).contiguous().view(torch.float32)


def _padded(matrix: Tensor, rows: int, columns: int) -> Tensor:
    """A matrix in float32, filled up with zeros to multiples of `rows` and `columns`."""
    height, width = (-(-n // m) * m for n, m in zip(matrix.shape, (rows, columns), strict=True))
    whole = torch.zeros(height, width)
    whole[: matrix.shape[0], : matrix.shape[1]] = matrix
    return whole


def _shelved(weights: Tensor) -> Tensor:
    return _SHELVES.room(weights.numel()).view(weights.shape).copy_(weights)


class _Shelves:
    """Memory for weights in huge pages, which take far fewer look-ups of addresses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shelf = torch.empty(0)

    def room(self, count: int) -> Tensor:
        """So many floats that begin with a cache line."""
        with (
            self._lock,
            torch.inference_mode(mode=False),
        ):  # others may write beside it, in any mode
            ahead = self._ahead()
            if ahead + count > len(self._shelf):  # numpy asks for huge pages, torch does not
                self._shelf = torch.from_numpy(np.empty(max(SHELF, count + LINE), dtype=np.float32))
                ahead = self._ahead()
            room = self._shelf[ahead : ahead + count]
            self._shelf = self._shelf[ahead + count :]
        return room

    def _ahead(self) -> int:
        return -(self._shelf.data_ptr() // self._shelf.element_size()) % LINE


_SHELVES = _Shelves()


def run(table: int, count: int, *, bf16: bool) -> None:
    """Carries out the `Affine` structures that begin at an address, on torch's threads."""
    function = _run_affines_by_units if bf16 else _run_affines
    function(table, count, torch.get_num_threads())
