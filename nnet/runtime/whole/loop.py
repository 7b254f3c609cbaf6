"""Loops that are recurrences, run by one kernel each way (`nnet.kernels.recurrence.run`).

What comes from outside is multiplied for all rows beforehand, derivatives with respect to weights
are products over all rows afterwards, as in every loop. Two loops that do not depend on each other
and are of the same kind, like those of a bidirectional layer, run side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from nnet.kernels.affine.terms import Term
from nnet.kernels.recurrence.gradient import Both, Runnable, differentiate, forward_of
from nnet.kernels.recurrence.program import BufferColumns, Given, Id
from nnet.modules.affine import AnyAffine
from nnet.modules.base import ComponentModule
from nnet.modules.gradient import BackpropTruncation
from nnet.modules.lstm import LstmNonlinearity
from nnet.plan import ir
from nnet.plan.groups import Loop
from nnet.plan.ir import Value
from nnet.plan.recurrence.loop import LoopRecurrence, has_outer_part
from nnet.plan.recurrence.translate import fits, recurrence_of
from nnet.plan.times import Selection, Times
from nnet.runtime.steps import Bound


def take(rows: Tensor, chosen: Selection) -> Tensor:
    """Chosen rows `(count, batch, dim)` of `(time, batch, dim)`; a view where they are regular."""
    if chosen.is_all(rows.shape[0]):
        return rows
    if chosen.index is not None:
        return rows.index_select(0, torch.from_numpy(chosen.index).to(rows.device))
    if not chosen.step:
        return rows[chosen.start : chosen.start + 1].expand(chosen.count, *rows.shape[1:])
    end = chosen.start + (chosen.count - 1) * chosen.step + 1
    return rows[chosen.start : end : chosen.step]


class WholeLoop:
    """A loop that is a recurrence, bound to a layout.

    Args:
        visible: the values of the loop that are wanted outside.
    """

    def __init__(
        self,
        bound: Bound,
        recurrence: LoopRecurrence,
        times: Times,
        visible: Sequence[Value],
    ) -> None:
        self.plan, self.layout = plan, _ = bound.plan, bound.layout
        self.recurrence, self.times = recurrence, times
        self.visible = tuple(visible)
        self.modules = {
            value: bound.module(value, operation.component)
            for value in recurrence.lanes
            if isinstance(operation := plan.operations[value], ir.Apply | ir.SplicedAffine)
        }
        self.named = dict(bound.modules)
        self.affine_sources = tuple(
            dict.fromkeys(
                term.value
                for value in recurrence.affines
                for term in self.terms(value)
                if term.value not in recurrence.lanes
            )
        )
        outside = (value for value, _, _ in recurrence.outer.values())
        self.outer = tuple(dict.fromkeys((*self.affine_sources, *outside)))
        self._both: dict[frozenset[int], Both] = {}
        self._outer_terms: dict[Value, list[tuple[Term, slice]]] = {}
        self._boundaries: dict[tuple[Value, int], Tensor] = {}

    @staticmethod
    def of(bound: Bound, loop: Loop, visible: Sequence[Value]) -> WholeLoop | None:
        """The loop, if a kernel can run it."""
        recurrence = recurrence_of(bound.plan, loop)
        times = None if recurrence is None else fits(bound.plan, bound.layout, recurrence)
        if recurrence is None or times is None:
            return None
        return WholeLoop(bound, recurrence, times, visible)

    def terms(self, value: Value) -> tuple[ir.Rows, ...]:
        """What an affine operation reads."""
        operation = self.plan.operations[value]
        assert isinstance(operation, ir.SplicedAffine)
        return operation.terms

    def outer_terms(self, value: Value) -> list[tuple[Term, slice]]:
        """What an affine operation reads outside, and its columns of the matrix."""
        if value not in self._outer_terms:
            self._outer_terms[value] = list(self._find_outer_terms(value))
        return self._outer_terms[value]

    def _find_outer_terms(self, value: Value) -> Iterator[tuple[Term, slice]]:
        column = 0
        reads = self.layout.reads[value]
        for rows, piece in zip(self.terms(value), reads, strict=False):
            columns = slice(column, column := column + rows.dim)
            if rows.value not in self.recurrence.lanes:
                chosen = piece.rows
                index = None if chosen.index is None else torch.from_numpy(chosen.index)
                source = self.affine_sources.index(rows.value)
                where = (chosen.start, chosen.step, chosen.count)
                term = Term(source, *where, index, rows.offset, rows.dim, rows.scale)
                yield term, columns

    def boundaries(self, value: Value, batch: int) -> Tensor:
        """The rows (rows, 1) where a truncation may set derivatives to zero, on the CPU."""
        key = (value, batch)
        if key not in self._boundaries:
            module = self.modules[value]
            assert isinstance(module, BackpropTruncation)
            marked = torch.from_numpy(module.boundaries(self.times, batch))
            self._boundaries[key] = marked.to(torch.uint8).view(-1, 1)
        return self._boundaries[key]

    def pairs_with(self, other: WholeLoop) -> bool:
        """Whether both are of the same kind, so that one launch can run them."""
        return self.recurrence.source == other.recurrence.source and self.stores == other.stores

    @cached_property
    def stores(self) -> dict[Id, list[BufferColumns]]:
        """Where visible values are stored."""
        return self._places(self.visible, "visible")

    def _places(self, values: Sequence[Value], name: str) -> dict[Id, list[BufferColumns]]:
        """Places for the columns of values, in a buffer for each."""
        places: dict[Id, list[BufferColumns]] = {}
        for number, value in enumerate(values):
            column = 0
            for lane in self.recurrence.lanes[value]:
                places.setdefault(lane, []).append(BufferColumns(f"{name} {number}", column))
                column += self.recurrence.source.dim(lane)
        return places

    @cached_property
    def forward_alone(self) -> Runnable:
        """The program for when there will be no derivative."""
        return forward_of(self.recurrence.source, self.stores)

    def both(self, repaired: frozenset[int]) -> Both:
        """The programs with the derivative."""
        if repaired not in self._both:
            given = {lane: places[0] for lane, places in self.given.items()}
            self._both[repaired] = differentiate(
                self.recurrence.source,
                self.stores,
                given,
                self._wanted(),
                self.read,
                repaired,
                self._summed(),
            )
        return self._both[repaired]

    def _summed(self) -> frozenset[int]:
        """The vectors whose gradients are sums that the derivative makes: peepholes."""
        return frozenset(
            number
            for number, part in enumerate(self.recurrence.vectors)
            if isinstance(self.named[part.component], LstmNonlinearity)
        )

    @cached_property
    def given(self) -> dict[Id, list[BufferColumns]]:
        """Where the derivatives with respect to visible values come from."""
        return self._places(self.visible, "of visible")

    def _wanted(self) -> dict[Id, list[BufferColumns]]:
        """Where gradients are wanted: for sums of affine operations, and for rows from outside."""
        places: dict[Id, list[BufferColumns]] = {}
        for value in self.recurrence.affines:
            column = 0
            for lane in self.recurrence.raw[value]:
                places.setdefault(lane, []).append(
                    BufferColumns(f"of {self.recurrence.buffer('gates', value)}", column)
                )
                column += self.recurrence.source.dim(lane)
        for lane, operation in enumerate(self.recurrence.source.operations):
            if isinstance(operation, Given) and operation.buffer in self.recurrence.outer:
                place = BufferColumns(f"of {operation.buffer}", operation.column)
                places.setdefault(lane, []).append(place)
        return places

    @cached_property
    def read(self) -> tuple[Id, ...]:
        """What is read after a derivative, and whose gradients are."""
        recurrence, lanes_read = self.recurrence, dict[Id, None]()
        for value in (*recurrence.cells, *recurrence.truncations):
            operation = self.plan.operations[value]
            lanes_read |= dict.fromkeys(recurrence.lanes[value])
            for operand in operation.operands:
                lanes_read |= dict.fromkeys(recurrence.lanes.get(operand, ()))
            named = (recurrence.inner.get(value, ()), recurrence.fed.get(value, ()))
            for lanes in (*named, *recurrence.results.get(value, ())):
                lanes_read |= dict.fromkeys(lanes)
        for value in recurrence.affines:
            for term in self.terms(value):
                lanes_read |= dict.fromkeys(recurrence.lanes.get(term.value, ()))
        return tuple(lanes_read)

    def affine(self, value: Value) -> AnyAffine:
        """The module of an affine operation."""
        module = self.modules[value]
        assert isinstance(module, AnyAffine)
        return module

    def has_outer_part(self, value: Value) -> bool:
        """Whether an affine operation reads anything outside the loop."""
        return has_outer_part(self.plan, self.recurrence, value)

    def parameters(self) -> list[Tensor]:
        """The trainable parameters, once each."""
        trained = (p for m in self._used() for p in m.parameters() if p.requires_grad)
        return list({id(p): p for p in trained}.values())

    def _used(self) -> list[ComponentModule]:
        scales = [
            self.named[operation.scale_offset]
            for value in self.recurrence.affines
            if isinstance(operation := self.plan.operations[value], ir.SplicedAffine)
            and operation.scale_offset
        ]
        return [*self.modules.values(), *scales]

    def inputs(self, values: Mapping[Value, Tensor]) -> list[Tensor]:
        """What affine operations read outside, and the rows that others do."""
        rows = [values[value] for value in self.affine_sources]
        for value, reader, number in self.recurrence.outer.values():
            rows.append(take(values[value], self.layout.reads[reader][number].rows))
        return rows

    def results(self, computed: Sequence[Tensor]) -> list[Tensor]:
        """The rows of visible values that are wanted, from all rows."""
        return [
            take(rows, self.times.select(self.layout.times[value]))
            for rows, value in zip(computed, self.visible, strict=True)
        ]
