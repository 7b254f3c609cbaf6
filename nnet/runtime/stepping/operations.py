"""The operations of a loop: what each does before the steps, in a step, and after them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from nnet.modules.affine import AnyAffine
from nnet.modules.base import ComponentModule, StepFunction, StepGradients, WindowModule
from nnet.modules.dropout import RandomModule
from nnet.plan import ir
from nnet.plan.derived import derivative_reads_values
from nnet.plan.ir import Value
from nnet.plan.loops.places import Place
from nnet.plan.loops.storage import reads
from nnet.plan.times import Times
from nnet.plan.windows import WindowRows
from nnet.runtime.stepping.affine import AffineLoopStep
from nnet.runtime.stepping.rows import LoopStep, Operand, RowsOf, Run, StepRows, split
from nnet.runtime.steps import Bound


class ApplyStep(LoopStep):
    """A component, row by row. A random one draws its masks for all rows before the steps.

    Its input comes in blocks of columns, which may lie apart. If its rows are those of its input,
    it does nothing but pass on the derivative.
    """

    def __init__(
        self, run: Run, value: Value, operation: ir.Apply, module: ComponentModule
    ) -> None:
        super().__init__(run, value)
        self.module = module
        self.count = run.layout.times[value].count
        self.blocks = [
            run.operand(r.value, r.piece, (r.offset, r.dim))
            for r in reads(run.plan, run.layout, value)
        ]
        self.in_place = run.storage.values.looks_at(value) is not None
        self.mask: Tensor | None = None
        self._forward: StepFunction | None = None
        self._backward: StepFunction | None = None

    @cached_property
    def moments(self) -> list[Times]:
        """The times of each step's rows."""
        return [self.times(first, end) for first, end in self.ranges]

    @cached_property
    def sources(self) -> list[StepRows]:
        """The rows of each block that each step reads."""
        return [self.read(block) for block in self.blocks]

    def _input(self, number: int) -> Tensor:
        """What a step reads, (rows, batch, dim)."""
        return _joined([rows[number] for rows in self.sources])

    def _split(self, rows: Tensor) -> list[Tensor]:
        return split(rows, self.ranges)

    def differentiated(self) -> Sequence[Operand]:
        return self.blocks

    @cached_property
    def alone(self) -> bool:
        """Whether all of the derivative with respect to the input comes from here, so that it is
        written."""
        return all(block.gets_gradient_alone for block in self.blocks)

    def prepare(self) -> None:
        if self.in_place:
            return
        if isinstance(self.module, RandomModule):
            if self.mask is None:
                self.mask = self.module(torch.ones_like(self.own.all()), self.times(0, self.count))
        elif all(block.rows.index is None for block in self.blocks):
            tracked = self.run.tracked
            free = tracked and self.alone and self.run.storage.overwritable(self.blocks[0].place)
            rows = [block.rows.all() for block in self.blocks]
            self._forward = self.module.forward_in_steps(
                rows, self.own.all(), self._split, keep=tracked, overwrite=free
            )

    def forward(self, number: int) -> None:
        if self.in_place:
            return
        if self._forward is not None:
            self._forward(number)
        elif self.mask is not None:
            mask = self.mask[slice(*self.ranges[number])]
            torch.mul(self._input(number), mask, out=self.rows[number])
        else:
            self.module.forward_into(self._input(number), self.moments[number], self.rows[number])

    def spent(self) -> Set[Value]:
        if not getattr(self._forward, "overwrites", False):
            return frozenset()
        return {
            buffer
            for buffer in {block.place.buffer for block in self.blocks if block.inside}
            if self._is_spent(buffer)
        }

    def _is_spent(self, buffer: Value) -> bool:
        storage = self.run.storage
        here = [block for block in self.blocks if block.place.buffer == buffer]
        everything = sum(block.dim for block in here) == storage.values.buffers[buffer].width
        return (
            everything
            and storage.may_share(buffer)
            and all(storage.overwritable(block.place) for block in here)
            and all(block.place.is_same(block.gradient_place) for block in here)
        )

    def start_backward(self) -> None:
        super().start_backward()
        targets = [self.target(block) for block in self.blocks]
        self.targets = [target for target in targets if target is not None]
        self._backward = self.factors = None
        if self.mask is not None:
            return
        if all(target.rows.index is None for target in self.targets):
            gradients = StepGradients(
                output=self.own_gradient.all(),
                targets=[target.rows.all() for target in self.targets],
                alone=[block.gets_gradient_alone for block in self.blocks],
                times=self.times(0, self.count),
                split=self._split,
            )
            self._backward = self.module.derivative_in_steps(self._forward, gradients)
        if self._backward is None and not self.in_place:
            rows = _joined([block.rows.all() for block in self.blocks])
            moments = self.times(0, self.count)
            self.factors = self.module.derivative_factors(rows, self.own.all(), moments)

    def backward(self, number: int) -> None:
        if self._backward is not None:
            self._backward(number)
            return
        column = 0
        of_input = self._derivative(number)
        for target in self.targets:
            dim = target.rows.place.dim
            target.add(number, of_input.narrow(2, column, dim))
            column += dim

    def _derivative(self, number: int) -> Tensor:
        """The derivative with respect to the input of a step, (rows, batch, dim)."""
        gradient, rows = self.gradients[number], slice(*self.ranges[number])
        if self.mask is not None:
            return gradient * self.mask[rows]
        if self.factors is not None:
            return self.module.derivative_from(self.factors[rows], self._input(number), gradient)
        source = result = gradient  # where the derivative does not depend on the values
        if not self.in_place:
            source, result = self._input(number), self.rows[number]
        elif derivative_reads_values(self.module.spec):
            source = result = self._input(number)
        return self.module.derivative(source, result, gradient, self.moments[number])

    def finish(self) -> None:
        parameters = [p for p in self.module.parameters() if p.requires_grad]
        summed = getattr(self._backward, "parameter_gradients", None)
        if summed is not None:
            self._add_parameters(parameters, summed())
            return
        if not parameters or self.mask is not None:
            return
        gradients = self.module.parameter_derivatives(
            _joined([block.rows.all() for block in self.blocks]),
            self.own.all(),
            self.own_gradient.all(),
            self.times(0, self.count),
            _joined([target.rows.all() for target in self.targets]) if self.alone else None,
        )
        self._add_parameters(parameters, gradients)

    def _add_parameters(
        self, parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]
    ) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            self.run.add_parameter(parameter, gradient)


def _joined(blocks: Sequence[Tensor]) -> Tensor:
    return blocks[0] if len(blocks) == 1 else torch.cat(list(blocks), dim=-1)


class AppendStep(LoopStep):
    """Copies the parts that were not computed in place, where they are read side by side."""

    def __init__(self, run: Run, value: Value, operation: ir.Append) -> None:
        super().__init__(run, value)
        self.count = run.layout.times[value].count
        self.parts = [
            run.operand(r.value, r.piece, (r.offset, r.dim))
            for r in reads(run.plan, run.layout, value)
        ]
        self.copied: list[tuple[StepRows, StepRows]] = []
        self.outer: list[tuple[Operand, RowsOf]] = []
        if run.storage.values.is_made(value):
            for operand, place in self._placed(Place(value, 0, 1, self.count, 0, operation.dim)):
                target = run.rows(value, place)
                if not operand.inside:
                    self.outer.append((operand, target))
                elif not operand.place.is_same(place):
                    self.copied.append((self.read(operand), StepRows(target, self.ranges)))

    def _placed(self, own: Place) -> Iterator[tuple[Operand, Place]]:
        """The parts, and where in the append they belong."""
        column = 0
        for operand in self.parts:
            yield operand, own.columns(column, operand.dim)
            column += operand.dim

    def prepare(self) -> None:
        for operand, target in self.outer:
            target.all().copy_(operand.rows.all())

    def forward(self, number: int) -> None:
        for source, target in self.copied:
            target[number].copy_(source[number])

    @cached_property
    def gradient_parts(self) -> list[tuple[Operand, Place]]:
        """The parts whose gradients lie elsewhere, and where in the append's they come from."""
        if not self.run.storage.gradients.is_made(self.value):
            return []
        own = self.run.storage.gradients.place(self.value)
        return [
            (operand, place)
            for operand, place in self._placed(own)
            if not (operand.inside and operand.gradient_place.is_same(place))
        ]

    def differentiated(self) -> Sequence[Operand]:
        return [operand for operand, _ in self.gradient_parts]

    def start_backward(self) -> None:
        parts = [(o, self.run.gradients(self.value, place)) for o, place in self.gradient_parts]
        self.outer_gradients = [(o, rows) for o, rows in parts if not o.inside]
        self.copied_gradients = [
            (self.target(operand), StepRows(rows, self.ranges))
            for operand, rows in parts
            if operand.inside
        ]

    def backward(self, number: int) -> None:
        for target, own in self.copied_gradients:
            if target is not None:
                target.add(number, own[number])

    def finish(self) -> None:
        for operand, rows in self.outer_gradients:
            gradient = operand.gradient()
            if gradient is not None:
                gradient.add(0, self.count, rows.all())


class SumStep(LoopStep):
    """A weighted sum of rows: sum_i scale_i x_i, element by element."""

    def __init__(self, run: Run, value: Value, operation: ir.Sum) -> None:
        super().__init__(run, value)
        pieces = run.layout.reads[value]
        operands = [run.operand(s.value, p) for s, p in zip(operation.sources, pieces, strict=True)]
        self.terms = list(zip(operands, operation.scales, strict=True))

        self.read_terms = [(self.read(operand), scale) for operand, scale in self.terms]

    def forward(self, number: int) -> None:
        result = self.rows[number]
        (rows, scale), *rest = self.read_terms
        torch.mul(rows[number], scale, out=result)
        for other, factor in rest:
            result.add_(other[number], alpha=factor)

    def differentiated(self) -> Sequence[Operand]:
        return [operand for operand, _ in self.terms]

    def start_backward(self) -> None:
        super().start_backward()
        self.targets = [(self.target(o), scale) for o, scale in self.terms if o.inside]

    def backward(self, number: int) -> None:
        gradient = self.gradients[number]
        for target, scale in self.targets:
            if target is not None:
                target.add(number, gradient, scale)

    def finish(self) -> None:
        for operand, scale in self.terms:
            target = None if operand.inside else operand.gradient()
            if target is not None:
                target.add(0, self.own.count, self.own_gradient.all(), scale)


class ScatteredStep(LoopStep):
    """Failover and Switch: each row comes from one of the operands."""

    def __init__(self, run: Run, value: Value, operation: ir.Operation) -> None:
        super().__init__(run, value)
        self.parts: list[tuple[Operand, np.ndarray]] = []
        for source, piece in zip(operation.operands, run.layout.reads[value], strict=True):
            if piece.rows.count:
                into = np.arange(self.own.count) if piece.into is None else piece.into
                self.parts.append((run.operand(source, piece), into))

    def _within(self, into: np.ndarray, first: int, end: int) -> tuple[int, int, Tensor]:
        """Which of an operand's rows go to rows `first` up to `end`, and where there."""
        a, b = np.searchsorted(into, [first, end]).tolist()
        return a, b, torch.from_numpy(into[a:b] - first).to(self.run.like.device)

    def forward(self, number: int) -> None:
        first, end = self.ranges[number]
        result = self.rows[number]
        for operand, into in self.parts:
            a, b, where = self._within(into, first, end)
            if a < b:
                result.index_copy_(0, where, operand.rows.take(a, b))

    def backward(self, number: int) -> None:
        first, end = self.ranges[number]
        gradient = self.gradients[number]
        for operand, into in self.parts:
            a, b, where = self._within(into, first, end)
            target = operand.gradient() if a < b else None
            if target is not None:
                target.add(a, b, gradient.index_select(0, where))


class WindowStep(LoopStep):
    """A component that looks at a window of frames, all of them made at earlier steps or before.

    Rows whose windows have the same frames are computed together.
    """

    def __init__(
        self, run: Run, value: Value, operation: ir.ApplyWindow, module: WindowModule
    ) -> None:
        super().__init__(run, value)
        self.module = module
        source = operation.source.value
        self.operand = run.operand(source, run.layout.reads[value][0])
        self.window = run.plan.components[operation.component].window
        times = run.layout.times
        self.index = WindowRows(self.window, times[source], times[value]).index
        self.order = np.argsort(np.asarray(self.window.offsets), kind="stable")

    def _alike(self, first: int, end: int) -> Iterator[tuple[Tensor, Tensor, WindowRows]]:
        """Rows (counted from `first`), the rows that they read, and the window as these have it."""
        index = self.index[first:end][:, self.order]
        patterns, number = np.unique(index >= 0, axis=0, return_inverse=True)
        offsets = np.asarray(self.window.offsets, dtype=np.int64)[self.order]
        device = self.run.like.device
        for i, present in enumerate(patterns):
            where = np.flatnonzero(number.reshape(-1) == i)
            read = index[where][:, present].T.reshape(-1)
            rows = WindowRows(self.window, Times.of(offsets[present]), Times(0, 1, 1))
            yield torch.from_numpy(where).to(device), torch.from_numpy(read).to(device), rows

    def _apply(self, read: Tensor, where: Tensor, rows: WindowRows) -> tuple[Tensor, Tensor]:
        """The component on some rows: its input, and its output `(rows, batch, dim)`."""
        batch = self.own.batch
        source = self.operand.rows.all().index_select(0, read)
        source = source.view(rows.stored.count, len(where) * batch, -1)
        source.requires_grad_(torch.is_grad_enabled())
        result = self.module(source, rows.own, rows)
        return source, result.view(len(where), batch, -1)

    def forward(self, number: int) -> None:
        own = self.rows[number]
        for where, read, rows in self._alike(*self.ranges[number]):
            own.index_copy_(0, where, self._apply(read, where, rows)[1])

    def backward(self, number: int) -> None:
        own = self.gradients[number]
        parameters = [p for p in self.module.parameters() if p.requires_grad]
        target = self.run.gradients(self.operand.value, self.operand.gradient_place)
        for where, read, rows in self._alike(*self.ranges[number]):
            with torch.enable_grad():
                source, result = self._apply(read, where, rows)
            gradients = torch.autograd.grad(
                result, [source, *parameters], own.index_select(0, where), allow_unused=True
            )
            for parameter, gradient in zip(parameters, gradients[1:], strict=True):
                self.run.add_parameter(parameter, gradient)
            if gradients[0] is not None:
                of_rows = gradients[0].view(len(read), self.own.batch, -1)
                target.all().index_add_(0, read, of_rows)


def make_step(run: Run, value: Value, bound: Bound) -> LoopStep:
    """The step that carries out an operation."""
    operation = run.plan.operations[value]
    match operation:
        case ir.SplicedAffine(component=component, scale_offset=name):
            module = bound.module(value, component)
            assert isinstance(module, AnyAffine)
            scales = bound.modules[name] if name else None
            return AffineLoopStep(run, value, operation, module, scales)
        case ir.Apply(component=component):
            return ApplyStep(run, value, operation, bound.module(value, component))
        case ir.Append():
            return AppendStep(run, value, operation)
        case ir.Sum():
            return SumStep(run, value, operation)
        case ir.Failover() | ir.Switch():
            return ScatteredStep(run, value, operation)
        case ir.ApplyWindow(component=component):
            module = bound.module(value, component)
            assert isinstance(module, WindowModule)
            return WindowStep(run, value, operation, module)
    raise TypeError(f"no way to carry out {type(operation).__name__} in a loop")
