"""Kernels of programs whose rows do not depend on each other: each element is read once and written
once, and programs never meet."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from nnet.kernels.gpu import Configuration, Kernel, Specimen, triton
from nnet.kernels.recurrence.gpu.launch import constants, function_of, own_arguments
from nnet.kernels.recurrence.loop import Loop
from nnet.kernels.recurrence.program import Recurrence

CONFIGURATIONS = (
    Configuration({"ROWS": 1, "CELLS": 1024, "DEPTH": 16}, warps=4, registers=128),
    Configuration({"ROWS": 2, "CELLS": 256, "DEPTH": 16}, warps=4, registers=128),
)
"""Bound by memory: many bytes in flight, for wide rows and for narrow ones. Left to itself, the
assembler spills registers here for more programs than there is memory traffic for."""

INTERPRETED = Configuration({"ROWS": 8, "CELLS": 32, "DEPTH": 16})

MOST_GROUPS = 65535
"""Of rows in a launch, which CUDA sets."""


@cache
def rows_kernel_of(program: Recurrence) -> Kernel:
    """The kernel of a program."""
    return make_rows_kernel(f"rows.{next(_NUMBERS)}", program)


_NUMBERS = itertools.count()


def make_rows_kernel(name: str, program: Recurrence, specimens: Sequence[Specimen] = ()) -> Kernel:
    """Declares the kernel of a program."""
    function = function_of(program, 1)
    return Kernel(name, function, CONFIGURATIONS, INTERPRETED, specimens, lambda *_: True)


def launch_rows(program: Recurrence, loop: Loop) -> None:
    """Runs a program whose rows do not depend on each other, in one launch; fills in the buffers
    that the program stores to."""
    if not loop.rows:
        return
    columns = max(program.dim(value) for value in program.places)
    own = {f"{key}_0": value for key, value in own_arguments(program, loop).items()}
    # Places within a launch have 32 bits: a launch goes through more rows than that in turns.
    widest = max(buffer.stride(0) for buffer in loop.buffers.values())
    own["width_0"] = width = max(1, min(loop.rows, (1 << 31) // max(1, widest) - 1, MOST_GROUPS))
    arguments: dict[str, Any] = {**own, **constants(program, loop)}
    arguments |= {"RESIDENT": False, "PRECISION": "ieee"}

    def grid(meta: Mapping[str, int]) -> tuple[int, ...]:
        return triton.cdiv(columns, meta["CELLS"]), triton.cdiv(width, meta["ROWS"]), 1

    like = tuple(str(buffer.dtype) for buffer in loop.buffers.values())
    rows_kernel_of(program)(grid, like=(like, triton.next_power_of_2(columns)), **arguments)
