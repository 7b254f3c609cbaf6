"""The affine transform inside a loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from nnet.kernels.affine_steps import AffineSteps
from nnet.kernels.native import is_native
from nnet.kernels.packed_affine import can_pack
from nnet.kernels.spliced_affine import ACTIVATIONS, affine_gradients, column_sums
from nnet.modules.affine import AnyAffine, Part
from nnet.modules.elementwise import ScaleOffset
from nnet.modules.loop_rows import Operand, Run, Step, StepRows
from nnet.plan import ir
from nnet.plan.ir import Value

HOISTED_ROWS = 512
"""About how many rows are multiplied at once by what does not feed back."""

PACKED_ROWS = 64
"""Steps of so many rows are multiplied with packed weights, all terms at once."""


class AffineStep(Step):
    """If a step has many rows, all its terms are multiplied at once, in C++ (`AffineSteps`); else
    those outside the loop are, for many steps at once, with the bias."""

    def __init__(
        self, run: Run, value: Value, operation: ir.SplicedAffine, module: AnyAffine, scales: object
    ) -> None:
        super().__init__(run, value)
        self.module = module
        self.operation = operation
        self.scale_offset = scales if isinstance(scales, ScaleOffset) else None
        reads = run.layout.reads[value]
        count = len(operation.terms)
        self.terms = [
            run.operand(rows.value, piece, (rows.offset, rows.dim))
            for rows, piece in zip(operation.terms, reads[:count], strict=True)
        ]
        self.bypass = [
            (run.operand(rows.value, piece, (rows.offset, rows.dim)), rows.scale)
            for rows, piece in zip(operation.bypass, reads[count:], strict=True)
        ]
        self.bypass_rows = [(self.read(operand), scale) for operand, scale in self.bypass]
        blocks = module.linear.detach().split([rows.dim for rows in operation.terms], dim=1)
        triples = list(zip(self.terms, blocks, operation.terms, strict=True))
        self.outer = [(t.rows, block, rows.scale) for t, block, rows in triples if not t.inside]
        self.flat = StepRows(self.own, self.ranges, flat=True)
        columns = [0, *accumulate(rows.dim for rows in operation.terms)]
        self.inner = [
            (self.read(t, flat=True), module.transposed(first, rows.dim), rows.scale)
            for (t, _, rows), first in zip(triples, columns, strict=False)
            if t.inside
        ]
        self.blocks = [(t, block, rows.scale) for t, block, rows in triples if t.inside]
        self.bias = None if module.bias is None else module.bias.detach()
        self.activated: Tensor | None = None
        if run.tracked and operation.activation:
            place = self.own.place
            self.activated = run.like.new_empty((place.count, run.like.shape[1], place.dim))

    def prepare(self) -> None:
        self.hoisted = 0
        self.packed = self._packed()

    def _packed(self) -> AffineSteps | None:
        """The steps in C++, if that is faster and rows lie as they have to."""
        batch, regular = self.own.batch, (self.own, *(term.rows for term in self.terms))
        few = max(end - first for first, end in self.ranges) * batch < PACKED_ROWS
        if few or not can_pack() or any(rows.flat_columns is None for rows in regular):
            return None
        columns = accumulate((0, *(rows.dim for rows in self.operation.terms)))
        parts = tuple(
            Part(first, rows.dim, rows.scale)
            for first, rows in zip(columns, self.operation.terms, strict=False)
        )
        result, *sources = (rows.flat(0, self.own.count) for rows in regular)
        if not all(map(is_native, (result, *sources, self.module.linear))):
            return None
        steps = [(first * batch, end * batch) for first, end in self.ranges]
        weight = self.module.packed(parts)
        return AffineSteps(sources, weight, self.bias, result, steps)

    def _hoist(self, number: int) -> None:
        """The outer terms and the bias, for the rows of this step and of some after it."""
        steps = self.ranges[number : number + self._steps_at_once(number)]
        self.hoisted = number + len(steps)
        first, end = min(steps)[0], max(end for _, end in steps)
        result = self.own.flat(first, end)
        started = False
        for rows, block, scale in self.outer:
            if rows.place.step == 0:
                continue
            source = rows.flat(first, end)
            if started:
                result.addmm_(source, block.t(), alpha=scale)
            elif self.bias is None:
                torch.addmm(result, source, block.t(), alpha=scale, beta=0.0, out=result)
            else:
                torch.addmm(self.bias, source, block.t(), alpha=scale, out=result)
            started = True
        if not started:
            result.copy_(torch.zeros_like(result) if self.bias is None else self.bias)
        for rows, block, scale in self.outer:
            if rows.place.step == 0:  # the same at all times
                once = torch.mm(rows.flat(first, first + 1), block.t())
                self.own.take(first, end).add_(once, alpha=scale)

    def _steps_at_once(self, number: int) -> int:
        """Many rows make a fast product; few are still in the cache when their step comes."""
        first, end = self.ranges[number]
        return max(1, HOISTED_ROWS // max(1, (end - first) * self.own.batch))

    def forward(self, number: int) -> None:
        if self.packed is not None:
            self.packed(number)
        else:
            self._multiply(number)
        if self.operation.activation or self.scale_offset or self.bypass:
            self._epilogue(number)

    def _multiply(self, number: int) -> None:
        if self.outer and number >= self.hoisted:
            self._hoist(number)
        result = self.flat[number]
        started = bool(self.outer)
        for rows, block, scale in self.inner:
            if started:
                result.addmm_(rows[number], block, alpha=scale)
            elif self.bias is not None:
                torch.addmm(self.bias, rows[number], block, alpha=scale, out=result)
            elif scale != 1.0:
                torch.addmm(result, rows[number], block, alpha=scale, beta=0.0, out=result)
            else:
                torch.mm(rows[number], block, out=result)
            started = True

    def _epilogue(self, number: int) -> None:
        made = self.rows[number]
        if self.operation.activation:
            ACTIVATIONS[self.operation.activation](made)
            if self.activated is not None:
                self.activated[slice(*self.ranges[number])] = made
        if self.scale_offset is not None:
            made.mul_(self.scale_offset.scales).add_(self.scale_offset.offsets)
        for rows, scale in self.bypass_rows:
            made.add_(rows[number], alpha=scale)

    def differentiated(self) -> Sequence[Operand]:
        return [*(operand for operand, _, _ in self.blocks), *(o for o, _ in self.bypass)]

    def start_backward(self) -> None:
        super().start_backward()
        self.flat_gradients = StepRows(self.own_gradient, self.ranges, flat=True)
        self.inner_targets = [
            (self.target(t, flat=True), block.contiguous(), scale)
            for t, block, scale in self.blocks
        ]
        self.bypass_targets = [(self.target(operand), scale) for operand, scale in self.bypass]

    def backward(self, number: int) -> None:
        rows = self.gradients[number]
        for target, scale in self.bypass_targets:
            if target is not None:
                target.add(number, rows, scale)
        if self.scale_offset is not None:
            rows.mul_(self.scale_offset.scales)
        if self.activated is not None:
            made = self.activated[slice(*self.ranges[number])]
            rows.mul_(_SLOPES[self.operation.activation](made))
        gradient = self.flat_gradients[number]
        for target, block, scale in self.inner_targets:
            assert target is not None
            target.add_product(number, gradient, block, scale)

    def finish(self) -> None:
        terms = self.operation.terms
        sources = [t.rows.tensor for t in self.terms]
        needs = [not t.inside and self.run.outer[t.value].requires_grad for t in self.terms]
        weight, found = affine_gradients(
            sources,
            [
                t.rows.term(i, r.scale)
                for i, (t, r) in enumerate(zip(self.terms, terms, strict=True))
            ],
            self.module.linear.detach(),
            self.own_gradient.all(),
            needs,
            self.module.linear.requires_grad,
            self.module.observer,
        )
        self.run.add_parameter(self.module.linear, weight)
        if self.module.bias is not None and self.module.bias.requires_grad:
            self.run.add_parameter(self.module.bias, column_sums(self.own_gradient.all()))
        for operand, gradient in zip(self.terms, found, strict=True):
            self.run.add_outer(operand.value, gradient)


_SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda y: (y > 0).to(y.dtype),
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: 1 - y * y,
}
