"""Loops that are recurrences, run by one kernel each way (`nnet.kernels.recurrence.run`).

What comes from outside is multiplied for all rows beforehand, gradients for weights are products
over all rows afterwards, as in every loop. Two loops that do not depend on each other and are of
the same kind, like those of a bidirectional layer, run side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nnet.kernels.affine.terms import Term
from nnet.kernels.recurrence.gradient import Both, Runnable, differentiate, forward_of
from nnet.kernels.recurrence.program import Given, Id, Place
from nnet.kernels.recurrence.run import Loop as KernelLoop
from nnet.kernels.recurrence.run import run
from nnet.modules.affine import AnyAffine
from nnet.modules.base import ComponentModule
from nnet.modules.gradient import BackpropTruncation
from nnet.modules.lstm import LstmNonlinearity
from nnet.plan import ir
from nnet.plan.ir import Value
from nnet.plan.loops.loop import Loop
from nnet.plan.recurrence.loop import LoopRecurrence, has_outer_part
from nnet.plan.recurrence.translate import fits, recurrence_of
from nnet.plan.times import Times
from nnet.runtime.steps import Bound
from nnet.runtime.whole.gradient import Gradients
from nnet.runtime.whole.rows import Rows, take


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
    def stores(self) -> dict[Id, list[Place]]:
        """Where visible values are stored."""
        return self._places(self.visible, "visible")

    def _places(self, values: Sequence[Value], name: str) -> dict[Id, list[Place]]:
        """Places for the columns of values, in a buffer for each."""
        found: dict[Id, list[Place]] = {}
        for number, value in enumerate(values):
            column = 0
            for lane in self.recurrence.lanes[value]:
                found.setdefault(lane, []).append(Place(f"{name} {number}", column))
                column += self.recurrence.source.dim(lane)
        return found

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
    def given(self) -> dict[Id, list[Place]]:
        """Where the gradients for visible values come from."""
        return self._places(self.visible, "of visible")

    def _wanted(self) -> dict[Id, list[Place]]:
        """Where gradients are wanted: for sums of affine operations, and for rows from outside."""
        found: dict[Id, list[Place]] = {}
        for value in self.recurrence.affines:
            column = 0
            for lane in self.recurrence.raw[value]:
                found.setdefault(lane, []).append(
                    Place(f"of {self.recurrence.buffer('gates', value)}", column)
                )
                column += self.recurrence.source.dim(lane)
        for lane, operation in enumerate(self.recurrence.source.operations):
            if isinstance(operation, Given) and operation.buffer in self.recurrence.outer:
                place = Place(f"of {operation.buffer}", operation.column)
                found.setdefault(lane, []).append(place)
        return found

    @cached_property
    def read(self) -> tuple[Id, ...]:
        """What is read after a derivative, and whose gradients are."""
        recurrence, found = self.recurrence, dict[Id, None]()
        for value in (*recurrence.cells, *recurrence.truncations):
            operation = self.plan.operations[value]
            found |= dict.fromkeys(recurrence.lanes[value])
            for operand in operation.operands:
                found |= dict.fromkeys(recurrence.lanes.get(operand, ()))
            named = (recurrence.inner.get(value, ()), recurrence.fed.get(value, ()))
            for lanes in (*named, *recurrence.results.get(value, ())):
                found |= dict.fromkeys(lanes)
        for value in recurrence.affines:
            for term in self.terms(value):
                found |= dict.fromkeys(recurrence.lanes.get(term.value, ()))
        return tuple(found)

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
        found = (p for m in self._used() for p in m.parameters() if p.requires_grad)
        return list({id(p): p for p in found}.values())

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
        found = [values[value] for value in self.affine_sources]
        for value, reader, number in self.recurrence.outer.values():
            found.append(take(values[value], self.layout.reads[reader][number].rows))
        return found

    def results(self, made: Sequence[Tensor]) -> list[Tensor]:
        """The rows of visible values that are wanted, from all rows."""
        return [
            take(rows, self.times.select(self.layout.times[value]))
            for rows, value in zip(made, self.visible, strict=True)
        ]


def run_together(
    loops: Sequence[WholeLoop], values: Mapping[Value, Tensor], like: Tensor
) -> list[list[Tensor]]:
    """The rows of the visible values of loops, `(time, batch, dim)`.

    Args:
        values: those outside the loops that they read.
        like: some input, for its batch size, type and device.
    """
    if torch.compiler.is_dynamo_compiling():  # to it, how programs are made is no part of a graph
        return torch.compiler.disable(run_together)(loops, values, like)
    inputs = [loop.inputs(values) for loop in loops]
    parameters = [p for loop in loops for p in loop.parameters()]
    flat = [tensor for own in inputs for tensor in own]
    tracked = torch.is_grad_enabled() and any(t.requires_grad for t in (*flat, *parameters))
    if tracked:
        made = list(_WholeLoops.apply(loops, like, parameters, *flat, *parameters))
    else:
        made = _forward([Rows(loop, own, like) for loop, own in zip(loops, inputs, strict=True)])
    found = []
    for loop in loops:
        own, made = made[: len(loop.visible)], made[len(loop.visible) :]
        found.append(loop.results(own))
    return found


def _forward(rows: Sequence[Rows]) -> list[Tensor]:
    """Runs programs that will have no derivative."""
    programs = [own.loop.forward_alone.program for own in rows]
    loops = [own.start(program) for own, program in zip(rows, programs, strict=True)]
    run(programs[0], *loops, implementation="triton")
    return _visible(rows, loops)


def _visible(rows: Sequence[Rows], loops: Sequence[KernelLoop]) -> list[Tensor]:
    return [
        own.by_time(loop.buffers[f"visible {number}"])
        for own, loop in zip(rows, loops, strict=True)
        for number in range(len(own.loop.visible))
    ]


class _WholeLoops(Function):
    @staticmethod
    def forward(
        ctx: Any,
        loops: Sequence[WholeLoop],
        like: Tensor,
        parameters: Sequence[Tensor],
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.parameters = parameters
        ctx.rows = []
        first = 0
        for loop in loops:
            count = len(loop.affine_sources) + len(loop.recurrence.outer)
            ctx.rows.append(Rows(loop, tensors[first : first + count], like))
            first += count
        ctx.inputs = first
        ctx.repaired = frozenset().union(*(own.repaired() for own in ctx.rows))
        programs = [own.loop.both(ctx.repaired).forward.program for own in ctx.rows]
        ctx.loops = [own.start(p) for own, p in zip(ctx.rows, programs, strict=True)]
        run(programs[0], *ctx.loops, implementation="triton")
        return tuple(_visible(ctx.rows, ctx.loops))

    @staticmethod
    def backward(ctx: Any, *given: Tensor | None) -> tuple[Tensor | None, ...]:
        found: list[Gradients] = []
        for own, loop in zip(ctx.rows, ctx.loops, strict=True):
            count = len(own.loop.visible)
            found.append(Gradients(own, loop, own.loop.both(ctx.repaired), given[:count]))
            given = given[count:]
        program = found[0].program
        run(program, *(own.backward for own in found), implementation="triton")
        needs, of_inputs = list(ctx.needs_input_grad[3 : 3 + ctx.inputs]), list[Tensor | None]()
        of_parameters: dict[int, Tensor] = {}
        for own in found:
            wanted, needs = needs[: len(own.rows.inputs)], needs[len(own.rows.inputs) :]
            of_inputs += own.for_inputs(wanted)
            of_parameters |= own.for_parameters()
        return (None, None, None, *of_inputs, *(of_parameters.get(id(p)) for p in ctx.parameters))
