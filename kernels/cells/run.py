"""Running programs of independent rows: plain torch, C++ on a CPU, Triton on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nnet.kernels.cells.cell import Program
from nnet.kernels.cells.cpu import LIBRARY, native_parts
from nnet.kernels.cells.parts import MatrixProduct, ProgramPart, parts_between_products, width_of
from nnet.kernels.implementation import Implementation
from nnet.kernels.native_rows import runs_natively
from nnet.kernels.recurrence.loop import Loop
from nnet.kernels.recurrence.program import Recurrence, SumName
from nnet.kernels.recurrence.run import run, run_rows, sums_over_rows


def way_for(implementation: Implementation, *tensors: Tensor) -> Implementation:
    """Plain torch where C++ does not take all of these tensors; else what is asked for."""
    if implementation == "native" and not runs_natively(LIBRARY, *tensors):
        return "reference"
    return implementation


@dataclass(frozen=True, eq=False)
class Memory:
    """What a program runs on.

    Attributes:
        buffers: by name, (time, batch, columns); the result of a product with matrix n is put in
            `product n`, and may be in the memory of other rows.
        vectors: by number, (1, columns); C++ reads them anew at each call.
        matrices: by number.
        added: buffers to which results are added.
    """

    buffers: Mapping[str, Tensor]
    vectors: Mapping[int, Tensor]
    matrices: Mapping[int, Tensor]
    added: frozenset[str] = frozenset()


class CellRun:
    """A program on its memory; called for rows of some times after the other.

    Args:
        memory: of `way` "native", float32 with adjacent columns (`way_for`).
    """

    def __init__(self, program: Program, memory: Memory, way: Implementation) -> None:
        self.program, self.memory, self.way = program, memory, way
        self.parts = parts_between_products(program.recurrence)
        like = next(iter(memory.buffers.values()))
        self.sums = {
            part: torch.zeros(_shape(part.program), dtype=torch.float64, device=like.device)
            for part in self.parts
            if part.program.sums
        }
        self.matrices = {
            product: _matrix(product, memory).to(like.dtype).contiguous()
            for part in self.parts
            for product in part.products
        }
        if way == "native":
            vectors = {n: vector.contiguous() for n, vector in memory.vectors.items()}
            self.functions: Sequence[Callable[[int, int], None]] = native_parts(
                program, memory.buffers, vectors, memory.added, self.sums
            )
        else:
            by = self._by_triton if way == "triton" else self._by_torch
            self.functions = [partial(by, part) for part in self.parts]

    def __call__(self, first: int, end: int) -> None:
        """Computes the rows of times `first` up to `end`."""
        for work in self.steps([(first, end)]):
            work()

    def steps(self, ranges: Sequence[tuple[int, int]]) -> list[Callable[[], object]]:
        """For each step, from a first time up to an end, what computes its rows; with all views
        made beforehand."""
        if len(self.parts) == 1:
            (function,) = self.functions
            return [partial(function, first, end) for first, end in ranges]
        works: list[list[Callable[[], object]]] = []
        for part, function in zip(self.parts, self.functions, strict=True):
            works += [self._products(product, ranges) for product in part.products]
            works.append([partial(function, first, end) for first, end in ranges])
        return [partial(_in_order, work) for work in zip(*works, strict=True)]

    @property
    def rows(self) -> int:
        """The number of rows, times * sequences."""
        times, batch, _ = next(iter(self.memory.buffers.values())).shape
        return times * batch

    def sum_of(self, name: SumName, number: int) -> Tensor:
        """A sum over all rows so far, (columns,) float64, by its name and number."""
        for part, sums in self.sums.items():
            for total, total_sum in zip(part.program.sums, sums, strict=True):
                if (total.name, total.number) == (name, number):
                    return total_sum
        raise KeyError(f"{self.program.name} has no sum of {name} {number}")

    def _products(
        self, product: MatrixProduct, ranges: Sequence[tuple[int, int]]
    ) -> list[Callable[[], object]]:
        """The products of the rows of steps."""
        buffers, column, matrix = self.memory.buffers, product.source.column, self.matrices[product]
        source = buffers[product.source.buffer][..., column : column + product.columns]
        result = buffers[product.result]
        if _is_dense(source) and _is_dense(result):
            pairs = zip(_views(source, ranges), _views(result, ranges), strict=True)
            return [partial(torch.mm, rows, matrix, out=out) for rows, out in pairs]
        return [
            partial(_multiply, source[first:end], matrix, result[first:end])
            for first, end in ranges
        ]

    def _by_torch(self, part: ProgramPart, first: int, end: int) -> None:
        buffers = {name: self.memory.buffers[name] for name in part.program.widths}
        loop = self._loop(buffers, end, self.memory.added)
        self._count(part, run_rows(part.program, loop, slice(first, end)))

    def _by_triton(self, part: ProgramPart, first: int, end: int) -> None:
        program, added = part.program, self.memory.added
        rows = {name: self.memory.buffers[name][first:end] for name in program.widths}
        flat = {name: own.flatten(0, 1) for name, own in rows.items()}
        apart = [n for n in program.written if n in added or not _is_dense(rows[n])]
        flat |= {name: torch.empty_like(flat[name]) for name in apart}
        loop = self._loop(flat, next(iter(flat.values())).shape[0], frozenset())
        run(program, loop, implementation="triton")
        if program.sums:
            self._count(part, sums_over_rows(program, loop))
        for name in apart:
            result = flat[name].view(rows[name].shape)
            rows[name].add_(result) if name in added else rows[name].copy_(result)

    def _loop(self, buffers: Mapping[str, Tensor], rows: int, added: frozenset[str]) -> Loop:
        return Loop(rows, max(1, rows), False, buffers, {}, self.memory.vectors, added)

    def _count(self, part: ProgramPart, sums: Sequence[Tensor]) -> None:
        for number, more in enumerate(sums):
            self.sums[part][number] += more


def _in_order(works: Sequence[Callable[[], object]]) -> None:
    for work in works:
        work()


def _is_dense(rows: Tensor) -> bool:
    """Whether rows (time, batch, columns) are rows of one matrix."""
    return rows.stride(0) == rows.shape[1] * rows.stride(1)


def _views(rows: Tensor, ranges: Sequence[tuple[int, int]]) -> Sequence[Tensor]:
    """The rows of steps, (rows, columns), of dense ones."""
    flat, batch = rows.flatten(0, 1), rows.shape[1]
    ordered = sorted(ranges)
    firsts, ends = zip(*ordered, strict=True)
    if firsts[1:] != ends[:-1] or len(set(ranges)) < len(ranges):
        return [flat[first * batch : end * batch] for first, end in ranges]
    start, sizes = firsts[0] * batch, [(end - first) * batch for first, end in ordered]
    views = flat[start : ends[-1] * batch].split(sizes)  # much faster than one by one
    if ordered == list(ranges):
        return views
    by_range = dict(zip(ordered, views, strict=True))
    return [by_range[own] for own in ranges]


def _multiply(source: Tensor, matrix: Tensor, result: Tensor) -> None:
    result.copy_(torch.matmul(source, matrix))


def _shape(program: Recurrence) -> tuple[int, int]:
    return len(program.sums), width_of(program)


def _matrix(product: MatrixProduct, memory: Memory) -> Tensor:
    matrix = memory.matrices[product.matrix]
    return matrix if product.transposed else matrix.t()
