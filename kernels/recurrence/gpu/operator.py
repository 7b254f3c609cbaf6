"""Recurrences as one operator, which tracing keeps as it is: `torch.ops.nnet.recurrence`.

It knows a program by its number in this process. Tensors of two loops that run side by side follow
each other in its lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TypeVar

from torch import Tensor

from nnet.kernels.gpu import operator
from nnet.kernels.recurrence.gpu.launch import launch
from nnet.kernels.recurrence.gpu.rows import launch_rows
from nnet.kernels.recurrence.gpu.signature import is_rowwise
from nnet.kernels.recurrence.loop import Loop
from nnet.kernels.recurrence.program import Recurrence

PROGRAMS: list[Recurrence] = []
"""By their numbers."""


@cache
def number_of(program: Recurrence) -> int:
    """The number by which the operator knows a program."""
    PROGRAMS.append(program)
    return len(PROGRAMS) - 1


def run_operator(program: Recurrence, loops: Sequence[Loop]) -> None:
    """Runs a program on loops by the operator `torch.ops.nnet.recurrence`; fills in the buffers
    that it stores to."""
    recurrence(number_of(program), *arguments_of(program, loops))


Arguments = tuple[
    list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[int], list[int], list[bool]
]


def arguments_of(program: Recurrence, loops: Sequence[Loop]) -> Arguments:
    """What the operator takes for loops: buffers that are written and that are only read, matrices,
    vectors, rows, rows of a step, and whether time runs backward."""
    return (
        [loop.buffers[name] for loop in loops for name in program.written],
        [loop.buffers[name] for loop in loops for name in program.given],
        [loop.matrices[number] for loop in loops for number in program.matrices],
        [loop.vectors[number] for loop in loops for number in program.vectors],
        [loop.rows for loop in loops],
        [loop.width for loop in loops],
        [loop.reverse for loop in loops],
    )


@operator(
    "recurrence(int program, Tensor(a!)[] written, Tensor[] given, Tensor[] matrices, "
    "Tensor[] vectors, int[] rows, int[] widths, bool[] reverse) -> ()",
    lambda program, written, given, matrices, vectors, rows, widths, reverse: None,
)
def recurrence(
    program: int,
    written: list[Tensor],
    given: list[Tensor],
    matrices: list[Tensor],
    vectors: list[Tensor],
    rows: list[int],
    widths: list[int],
    reverse: list[bool],
) -> None:
    """The operator: runs program number `program` on one or two loops, given as `arguments_of`
    lists them."""
    known = PROGRAMS[program]
    outputs, inputs = iter(written), iter(given)
    weights, columns = iter(matrices), iter(vectors)
    loops = []
    for shape in zip(rows, widths, reverse, strict=True):
        buffers = {**_named(known.written, outputs), **_named(known.given, inputs)}
        numbered = _named(known.matrices, weights), _named(known.vectors, columns)
        loops.append(Loop(*shape, buffers, *numbered))
    if is_rowwise(known):
        (loop,) = loops
        launch_rows(known, loop)
    else:
        launch(known, loops)


Name = TypeVar("Name")


def _named(names: Iterable[Name], tensors: Iterator[Tensor]) -> dict[Name, Tensor]:
    """The next tensors, one for each name."""
    return {name: next(tensors) for name in names}
