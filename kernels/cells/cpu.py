"""Cells on a CPU, for steps of a loop and for many rows: cells.cpp, in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ctypes import POINTER, c_int64, c_void_p

import torch
from torch import Tensor

from nnet.kernels.cells.cell import Program
from nnet.kernels.cells.parts import ProgramPart, parts_between_products, width_of
from nnet.kernels.native import Struct, adjacent
from nnet.kernels.native_rows import RowAddresses, over_rows
from nnet.kernels.recurrence.program import Recurrence

LIBRARY = "cells"


class _CellBuffer(Struct):
    _fields_ = (("rows", RowAddresses), ("adds", c_int64))


class _CellVector(Struct):
    _fields_ = (("data", c_void_p),)


class _Cell(Struct):
    _fields_ = (
        ("threads", c_int64),
        ("batch", c_int64),
        ("dim", c_int64),
        ("adds", c_int64),
        ("buffers", POINTER(_CellBuffer)),
        ("vectors", POINTER(_CellVector)),
        ("sums", c_void_p),
        ("scratch", c_void_p),
    )


def buffers_of(program: Recurrence) -> tuple[str, ...]:
    """The buffers of a program, in the order in which its function in C++ has them."""
    return tuple(program.widths)


def function_name(program: Program, part: int) -> str:
    """The name of the function in C++ of a part of a program."""
    return f"{program.name}_{part}" if part else program.name


def native_parts(
    program: Program,
    buffers: Mapping[str, Tensor],
    vectors: Mapping[int, Tensor],
    added: Iterable[str],
    sums: Mapping[ProgramPart, Tensor],
) -> list[Callable[[int, int], None]]:
    """For each part of a program, what runs it for rows `first` up to `end`.

    Args:
        buffers: (time, batch, columns).
        vectors: (1, columns), which must stay where they are.
        added: buffers to which results are added.
        sums: of each part that has some, (sums, columns) float64; is added to.
    """
    functions = []
    for number, part in enumerate(parts_between_products(program.recurrence)):
        own = [buffers[name] for name in buffers_of(part.program)]
        flags = [name in added for name in buffers_of(part.program)]
        read = [vectors[vector] for vector in part.program.vectors]
        dim = width_of(part.program)
        threads = torch.get_num_threads()
        total = sums.get(part)
        scratch = None if total is None else own[0].new_empty((threads, *total.shape))
        struct = _Cell(
            threads,
            own[0].shape[1],
            dim,
            any(flags),
            adjacent(
                [_CellBuffer(RowAddresses.of(x), flag) for x, flag in zip(own, flags, strict=True)]
            ),
            adjacent([_CellVector(vector) for vector in read]) if read else None,
            total,
            scratch,
        )
        functions.append(over_rows(function_name(program, number), struct))
    return functions
