"""Kernels of `nnet.kernels.recurrence.run`: programs that stay for the whole loop.

Rows of a step are cut into groups that never need each other; the programs of a group share the
columns, and meet after each stage of a step (`nnet.kernels.recurrence.stages`). A program whose
columns are one block keeps their recurrent weights on chip for all steps. All programs of a group
have to run at the same time, so there are no more of them than processors, and they are launched
together or not at all. Two loops that do not depend on each other run side by side, on half of the
processors each.

What is written is never written again in the same pass, and what other programs have written is
read past the level-1 cache (`.cg`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from nnet.kernels.functions import FUNCTIONS
from nnet.kernels.gpu import (
    INTERPRETED,
    Configuration,
    Kernel,
    Specimen,
    device_function,
    dot,
    function_of_text,
    input_precision,
    tl,
    triton,
)
from nnet.kernels.recurrence.gpu.blocks import RESIDENT_COLUMNS
from nnet.kernels.recurrence.gpu.signature import signature_of
from nnet.kernels.recurrence.gpu.text import KernelText
from nnet.kernels.recurrence.loop import Loop
from nnet.kernels.recurrence.program import Id, Product, Recurrence, RowSum

BLOCKS = {"ROWS": 64, "CELLS": 16}
"""Rows and columns of what a program makes at a time."""

DEPTHS = (64, 32, 16)
"""How much of a sum is made at a time: 128 bytes of a column of weights, less where derivatives,
which read more at a time, would spill registers."""

REGISTERS = 255
"""Of a thread in derivatives: as many as there are, since one program runs on a processor."""

SMALL = {"ROWS": 16, "CELLS": 16, "DEPTH": 16}
"""The same in the interpreter."""

RESIDENT_BYTES = 2
"""Of a weight that stays on chip at most."""


@device_function
def meet(counter, members, target):
    """Waits until all programs of a group have come here, `target` calls in all.

    The barriers order what all threads of a program did before and after what its one thread that
    counts does; that thread's release and acquire, for the whole device, order it between programs.
    """
    if members > 1:
        tl.debug_barrier()
        seen = tl.atomic_add(counter, 1, sem="acq_rel", scope="gpu") + 1
        while seen < target:
            seen = tl.atomic_add(counter, 0, sem="acquire", scope="gpu")
        tl.debug_barrier()


@device_function
def tile(base, row, stride, column, inside, used):
    """Rows and columns as other programs left them, (rows, columns)."""
    place = base + row[:, None] * stride + column[None, :]
    mask = inside[:, None] & used[None, :]
    return tl.load(place, mask=mask, other=0.0, cache_modifier=".cg").to(tl.float32)


@device_function
def numbers(base, row, stride, inside):
    """One number of each row, from column 0 of a buffer, (rows,)."""
    return tl.load(base + row * stride, mask=inside, other=0, cache_modifier=".cg").to(tl.float32)


@device_function
def put(base, row, stride, column, inside, used, value):
    """Stores a tile of values at rows and columns of a buffer, (rows, columns)."""
    place = base + row[:, None] * stride + column[None, :]
    tl.store(place, value, mask=inside[:, None] & used[None, :])


@device_function
def summed(base, row, inside, parts: tl.constexpr):
    """Sums over columns, of which each block of columns left a part, (rows,)."""
    part = tl.arange(0, parts)
    place = base + row[:, None] * parts + part[None, :]
    part_sums = tl.load(place, mask=inside[:, None], other=0.0, cache_modifier=".cg")
    return tl.sum(part_sums, axis=1)


@device_function
def vector(base, column, used):
    """Numbers that are the same for all rows, (1, columns)."""
    return tl.load(base + column, mask=used, other=0.0)[None, :].to(tl.float32)


@device_function
def weights(base, depth, column, depth_stride, column_stride, depths, columns):
    """A block of a matrix, (depth, columns)."""
    place = base + depth[:, None] * depth_stride + column[None, :] * column_stride
    mask = (depth < depths)[:, None] & (column < columns)[None, :]
    return tl.load(place, mask=mask, other=0.0)


@device_function
def sigmoid(x):
    return tl.sigmoid(x)


@device_function
def tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@device_function
def relu(x):
    return tl.where(x < 0, 0.0, x)


@device_function
def truncation_factor(square, marked, scale, threshold, zeroing):
    """What a row's derivative is multiplied by, for the square of its norm."""
    norm = tl.sqrt(square) * tl.abs(tl.cast(scale, tl.float32))
    limit = tl.where(threshold > 0, threshold, 1.0)
    factor = scale / tl.where(threshold > 0, tl.maximum(norm / limit, 1.0), 1.0)
    return tl.where((marked != 0) & (norm > zeroing), 0.0, factor)


@device_function
def renorm_factor(square, size):
    """1 / sqrt(mean square), from the sum of squares of `size` columns, (rows,)."""
    return 1.0 / tl.sqrt(tl.maximum(square / size, 2.0**-66))


@device_function
def renorm_slope(factor, product, size):
    """How the derivative flows through `renorm_factor`, by which a row's values are multiplied,
    (rows,)."""
    slope = -factor * factor * factor * product / size
    return tl.where(factor >= 2.0**33, 0.0, slope)


_NAMESPACE = {
    function.__name__: function
    for function in (
        meet, tile, numbers, put, summed, vector, weights, dot, sigmoid, tanh, relu,
        truncation_factor, renorm_factor, renorm_slope,
    )
}  # fmt: skip
"""What texts of kernels may call, beside `_of_outputs`."""


def _of_outputs() -> Iterator[tuple[str, Any]]:
    """Slopes of nonlinearities and pushes of self-repair, functions of an output (rows, columns),
    from the one table of functions: `tanh_slope` and the like."""
    for name, function in FUNCTIONS.items():
        texts = {"slope": function.slope_text, "push": function.push_text}
        for kind, expression in texts.items():
            if expression:
                text = f"def {name}_{kind}(y):\n    return {expression}\n"
                declared = function_of_text(f"{name}_{kind}", text, {"tl": tl})
                yield f"{name}_{kind}", device_function(declared)


_NAMESPACE |= _of_outputs()


@cache
def kernel_of(program: Recurrence, loops: int) -> Kernel:
    """The kernel of a program."""
    return make_kernel(f"recurrence.{next(_NUMBERS)}", program, loops)


_NUMBERS = itertools.count()


def function_of(program: Recurrence, loops: int) -> Any:
    """The text of a program's kernel as a function in Triton's language."""
    text = KernelText(program, loops).make()
    return triton.jit(function_of_text("kernel", text, {"tl": tl, **_NAMESPACE}))


def make_kernel(
    name: str, program: Recurrence, loops: int, specimens: Sequence[Specimen] = ()
) -> Kernel:
    """Declares the kernel of a program."""
    function = function_of(program, loops)
    # Loads are not made ahead of time: what they read may not be there before the loop they are in.
    transposed = any(isinstance(o, Product) and o.transposed for o in program.operations)
    registers = REGISTERS if transposed else None
    configurations = [
        Configuration({**BLOCKS, "DEPTH": depth}, warps=8, stages=1, registers=registers)
        for depth in DEPTHS
    ]
    fits = partial(_fits, transposed)
    return Kernel(name, function, configurations, Configuration(SMALL), specimens, fits)


def _fits(
    transposed: bool, choice: Configuration, arguments: Mapping[str, Any], architecture: int
) -> bool:
    """Whether a configuration is the only one for a call: in a recurrence results are written over
    what was given, so it cannot be tried."""
    weights = arguments["w0_0"]
    size = (weights if isinstance(weights, torch.dtype) else weights.dtype).itemsize
    depth = 128 // size
    if transposed:
        depth = 32 if architecture >= 90 else 16
    return choice.constants["DEPTH"] == depth


def blocks() -> dict[str, int]:
    """The block sizes of this process."""
    return SMALL if INTERPRETED else BLOCKS


def launch(program: Recurrence, loops: Sequence[Loop]) -> None:
    """Runs a program whose rows depend on earlier ones, by one kernel for all its steps, on one
    loop or on two side by side; fills in the buffers that the program stores to."""
    groups = max(triton.cdiv(min(loop.width, loop.rows), blocks()["ROWS"]) for loop in loops)
    members = _members(program, groups * len(loops), loops[0])
    arguments: dict[str, Any] = {"members": members, **constants(program, loops[0])}
    for number, loop in enumerate(loops):
        arguments |= {
            f"{key}_{number}": value for key, value in own_arguments(program, loop).items()
        }
    like = next(iter(loops[0].matrices.values()))
    arguments["counters"] = torch.zeros(groups * len(loops), dtype=torch.int32, device=like.device)
    arguments["PRECISION"] = input_precision(like.dtype)
    narrow = like.element_size() <= RESIDENT_BYTES
    arguments["RESIDENT"] = narrow and members >= _blocks_of_resident(program)
    if members > 1:  # programs wait for each other: all run at a time, or the launch fails
        arguments["launch_cooperative_grid"] = True
    kernel_of(program, len(loops))(lambda _: (members, groups, len(loops)), **arguments)


def _members(program: Recurrence, groups: int, loop: Loop) -> int:
    """How many programs share a row."""
    if INTERPRETED:  # one program after the other: none may wait for another
        return 1
    widest = max(program.dim(value) for value in program.places)
    device = next(iter(loop.buffers.values())).device
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(triton.cdiv(widest, BLOCKS["CELLS"]), processors // groups))


def _blocks_of_resident(program: Recurrence) -> int:
    """How many blocks of columns there are of what is made by weights that could stay on chip."""
    products = [o for o in program.operations if isinstance(o, Product) and not o.transposed]
    dims = [p.dim for p in products if program.dim(p.of) <= RESIDENT_COLUMNS]
    return int(triton.cdiv(max(dims), blocks()["CELLS"])) if dims else 0


def parts_of(program: Recurrence, value: Id) -> int:
    """The parts of a sum over columns, one a block, up to a power of 2."""
    operation = program.operations[value]
    assert isinstance(operation, RowSum)
    return int(triton.next_power_of_2(triton.cdiv(program.dim(operation.of), blocks()["CELLS"])))


def constants(program: Recurrence, loop: Loop) -> dict[str, int]:
    """The distances between rows of buffers and of vectors, and the parts of sums, by their short
    names in the kernel's text."""
    signature = signature_of(program, 1)
    distances = {f"S{n}": loop.buffers[name].stride(0) for n, name in enumerate(signature.buffers)}
    for n, number in enumerate(signature.vectors):
        vectors = loop.vectors[number]
        distances[f"V{n}"] = vectors.stride(0) if len(vectors) > 1 else 0
    distances |= {f"Q{n}": parts_of(program, value) for n, value in enumerate(signature.sums)}
    return distances


def own_arguments(program: Recurrence, loop: Loop) -> dict[str, Tensor | int]:
    """A loop's arguments by their short names."""
    signature = signature_of(program, 1)
    arguments: dict[str, Tensor | int] = {
        f"b{n}": loop.buffers[name] for n, name in enumerate(signature.buffers)
    }
    arguments |= {
        f"w{n}": loop.matrices[number].contiguous() for n, number in enumerate(signature.matrices)
    }
    arguments |= {
        f"v{n}": loop.vectors[number].contiguous() for n, number in enumerate(signature.vectors)
    }
    like = next(b for b in loop.buffers.values() if b.is_floating_point())
    for n, value in enumerate(signature.sums):
        arguments[f"p{n}"] = like.new_zeros((loop.rows, parts_of(program, value)))
    return {**arguments, "rows": loop.rows, "width": loop.width, "reverse": int(loop.reverse)}
