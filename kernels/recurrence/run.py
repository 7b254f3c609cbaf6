"""Running recurrences: their buffers, the plain torch that is the reference, values afterwards."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nnet.kernels.functions import FUNCTIONS
from nnet.kernels.implementation import Implementation, triton_file, uses_triton
from nnet.kernels.recurrence.loop import Loop
from nnet.kernels.recurrence.program import (
    ColumnSum,
    Earlier,
    Factor,
    Function,
    Given,
    Id,
    Multiply,
    Offset,
    Operation,
    Product,
    Push,
    Recurrence,
    RowGiven,
    RowSum,
    Scaled,
    Slope,
    Total,
    Weighted,
)

POWER_FLOOR = 2.0**-66
"""Of mean squares in renorm."""


def run(program: Recurrence, *loops: Loop, implementation: Implementation = "reference") -> None:
    """Fills in the buffers that a program stores to.

    Args:
        loops: one, or two that do not depend on each other: they run side by side.
    """
    if uses_triton(
        implementation, *(b for b in loops[0].buffers.values() if b.is_floating_point())
    ):
        triton_file("recurrence.gpu.operator").run_operator(program, loops)
        return
    for loop in loops:
        for number, rows in enumerate(loop.steps()):
            run_rows(program, loop, rows, number)


def run_rows(program: Recurrence, loop: Loop, rows: slice, step: int = 0) -> list[Tensor]:
    """Plain torch for some rows, those of one step at most.

    Returns:
        `program.sums` over these rows, each (columns,).
    """
    values = _Values(program, loop, rows, step)
    sums = [values.summed(total) for total in program.sums]
    results = [(values[value], place) for value, place in program.stores]
    for result, place in results:  # all is read before anything is written over it
        own = loop.buffers[place.buffer][rows]
        own = own[..., place.column : place.column + result.shape[-1]]
        if place.buffer in loop.added:
            own.add_(result)
        else:
            own.copy_(result)
    return sums


def sums_over_rows(program: Recurrence, loop: Loop) -> list[Tensor]:
    """`program.sums`, each (columns,), after the program has run, as `evaluate` reads values."""
    values = _Stored(program, loop, slice(0, loop.rows), 0)
    return [values.summed(total) for total in program.sums]


def evaluate(program: Recurrence, loop: Loop, value: Id) -> Tensor:
    """A value for all rows, (rows, columns), after the program has run: read from its buffer, or
    computed again from what is in buffers."""
    return _Stored(program, loop, slice(0, loop.rows), 0)[value]


class _Values:
    """What a program computes for some rows, that of their own step at most."""

    def __init__(self, program: Recurrence, loop: Loop, rows: slice, step: int) -> None:
        self.program, self.loop, self.rows, self.step = program, loop, rows, step
        self.places = program.places
        self.known: dict[Id, Tensor] = {}

    def __getitem__(self, value: Id) -> Tensor:
        if value not in self.known:
            self.known[value] = self._made(self.program.operations[value])
        return self.known[value]

    def stored(self, value: Id, shift: int = 0) -> Tensor:
        place = self.places[value]
        return self._read(place.buffer, place.column, self.program.dim(value), shift)

    def _read(self, buffer: str, column: int, dim: int, shift: int) -> Tensor:
        """Columns of a buffer for rows that are `shift` delays further on; zeros beyond the end."""
        columns = self.loop.buffers[buffer][..., column : column + dim]
        if not shift:
            return columns[self.rows]
        first, end = (row + shift * self.loop.ahead for row in (self.rows.start, self.rows.stop))
        total = self.loop.rows
        inside = columns[min(max(first, 0), total) : min(max(end, 0), total)]
        before, after = max(0, min(-first, end - first)), max(0, min(end - total, end - first))
        return torch.nn.functional.pad(inside, (0, 0, before, after))

    def summed(self, total: ColumnSum) -> Tensor:
        """A sum over these rows, (columns,)."""
        first, *second = (self[value] for value in total.operands)
        product = first * second[0] if second else first
        return product.flatten(0, -2).sum(dim=0)

    def _vector(self, number: int) -> Tensor:
        vectors = self.loop.vectors[number]
        return vectors[min(self.step, len(vectors) - 1)]

    def _made(self, operation: Operation) -> Tensor:
        match operation:
            case Given(dim=dim, buffer=buffer, column=column, shift=shift):
                return self._read(buffer, column, dim, shift)
            case RowGiven(buffer=buffer, column=column):
                return self._read(buffer, column, 1, 0)
            case Earlier(of=of):
                return self.stored(of, -1)
            case Product(of=of, matrix=number, transposed=transposed):
                matrix, source = self.loop.matrices[number], self[of]
                result = source.to(matrix.dtype) @ (matrix if transposed else matrix.t())
                return result.to(source.dtype)
            case RowSum(of=of, second=second, earlier=True):
                return (self.stored(of, -1) * self.stored(second, -1)).sum(-1, keepdim=True)
            case RowSum(of=of, second=second):
                return (self[of] * self[second]).sum(-1, keepdim=True)
            case Factor():
                return self._factor(operation)
            case Total(dim=dim, terms=terms, constant=constant):
                parts = [self[term] if scale == 1 else scale * self[term] for term, scale in terms]
                if not parts:
                    like = self._like()[self.rows]
                    return like.new_full((*like.shape[:-1], dim), constant)
                result = sum(parts[1:], parts[0])
                return result + constant if constant else result
        return self._column_by_column(operation)

    def _column_by_column(self, operation: Operation) -> Tensor:
        match operation:
            case Multiply(of=of, second=second) | Scaled(of=of, row=second):
                return self[of] * self[second]
            case Function(of=of, name=name):
                return FUNCTIONS[name].value(self[of])
            case Slope(of=of, name=name):
                return FUNCTIONS[name].slope(self[of])
            case Push(of=of, name=name, vector=vector):
                return FUNCTIONS[name].push(self[of]) * self._vector(vector)
            case Weighted(of=of, vector=vector):
                return self[of] * self._vector(vector)
            case Offset(of=of, vector=vector):
                return self[of] + self._vector(vector)
        raise TypeError(f"no way to compute {type(operation).__name__}")

    def _like(self) -> Tensor:
        return next(b for b in self.loop.buffers.values() if b.is_floating_point())

    def _factor(self, factor: Factor) -> Tensor:
        first, *rest = (self[term] for term in factor.sums)
        if factor.name == "renorm slope":
            floored = first >= POWER_FLOOR**-0.5
            return (-(first**3) * rest[0] / factor.numbers[0]).masked_fill(floored, 0.0)
        total = sum(rest, first)
        if factor.name == "renorm":
            return (total / factor.numbers[0]).clamp_min(POWER_FLOOR).rsqrt()
        scale, threshold, zeroing = factor.numbers
        norm = total.sqrt() * abs(scale)
        factors = torch.full_like(norm, scale)
        if threshold > 0:
            factors = factors / (norm / threshold).clamp_min(1)
        if factor.boundaries:
            marked = self.loop.buffers[factor.boundaries][self.rows].bool()
            factors = factors.masked_fill(marked & (norm > zeroing), 0.0)
        return factors


class _Stored(_Values):
    """What a program has computed, after it has run: values that are in a buffer are read from
    there."""

    def __getitem__(self, value: Id) -> Tensor:
        if value in self.places and value not in self.known:
            self.known[value] = self.stored(value)
        return super().__getitem__(value)


def buffers_of(program: Recurrence, rows: int, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All buffers of a program: the known ones, and new ones; new memory is not filled in."""
    like = next(b for b in known.values() if b.is_floating_point())
    new = {
        name: like.new_empty((rows, width))
        for name, width in program.widths.items()
        if name not in known
    }
    return {**known, **new}
