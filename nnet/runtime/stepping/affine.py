"""The affine transform inside a loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from nnet.kernels.affine.packed import pack
from nnet.kernels.affine.sizes import PACKED_ROWS
from nnet.kernels.affine.spliced import affine_gradients
from nnet.kernels.affine.steps import AffineSteps
from nnet.kernels.affine.terms import column_sums
from nnet.kernels.functions import FUNCTIONS
from nnet.kernels.native import is_native
from nnet.modules.affine import AnyAffine, Part
from nnet.modules.elementwise import ScaleOffset
from nnet.plan import ir
from nnet.plan.ir import Value
from nnet.runtime.stepping.rows import LoopStep, Operand, Ranges, RowsOf, Run, StepRows

HOISTED_ROWS = 512
"""About how many rows are multiplied at once by what does not feed back."""


class AffineLoopStep(LoopStep):
    """If a step has many rows, all its terms are multiplied at once, in C++ (`AffineSteps`), and so
    are derivatives; else those outside the loop are, for many steps at once, with the bias."""

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
        self.kept: Tensor | None = None
        if run.tracked and operation.activation:
            place = self.own.place
            self.kept = run.like.new_empty((place.count, run.like.shape[1], place.dim))

    def prepare(self) -> None:
        self.hoisted = 0
        self.packed = self._packed()

    def _packed(self) -> AffineSteps | None:
        """The steps in C++, if that is faster and rows lie as they have to."""
        if not self._can_pack(self.own, *(term.rows for term in self.terms)):
            return None
        columns = accumulate((0, *(rows.dim for rows in self.operation.terms)))
        parts = tuple(
            Part(first, rows.dim, rows.scale)
            for first, rows in zip(columns, self.operation.terms, strict=False)
        )
        sources = [term.rows.flat(0, self.own.count) for term in self.terms]
        result, weight = self.own.flat(0, self.own.count), self.module.packed(parts)
        return AffineSteps(sources, weight, self.bias, result, self._flat_ranges())

    def _can_pack(self, *rows: RowsOf) -> bool:
        """Whether steps have so many rows that C++ is faster, and all rows lie as it needs them."""
        many = max(end - first for first, end in self.ranges) * self.own.batch >= PACKED_ROWS
        columns = [r.flat_columns for r in rows]
        adjacent = all(x is not None and is_native(x) for x in (self.module.linear, *columns))
        return many and adjacent and self.module.implementation == "native"

    def _flat_ranges(self) -> Ranges:
        """For each step its first row and the row after its last, as rows of matrices."""
        batch = self.own.batch  # row (t, b) is row t * batch + b of a matrix
        return [(first * batch, end * batch) for first, end in self.ranges]

    def _hoist(self, number: int) -> None:
        """The outer terms and the bias, for the rows of this step and of some after it."""
        steps = self.ranges[number : number + self._steps_at_once(number)]
        self.hoisted = number + len(steps)
        # Steps adjoin each other, up or (time runs backward) down: together they are one range.
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
        result = self.rows[number]
        if self.operation.activation:
            function = FUNCTIONS[self.operation.activation]
            step = slice(*self.ranges[number])
            if self.kept is not None and function.slope_of_input:
                self.kept[step] = result
            function.in_place(result)
            if self.kept is not None and not function.slope_of_input:
                self.kept[step] = result
        if self.scale_offset is not None:
            result.mul_(self.scale_offset.scales).add_(self.scale_offset.offsets)
        for rows, scale in self.bypass_rows:
            result.add_(rows[number], alpha=scale)

    def differentiated(self) -> Sequence[Operand]:
        return [*(operand for operand, _, _ in self.blocks), *(o for o, _ in self.bypass)]

    def start_backward(self) -> None:
        super().start_backward()
        self.products = [self._product(*block) for block in self.blocks]
        self.bypass_targets = [(self.target(operand), scale) for operand, scale in self.bypass]

    def _product(self, operand: Operand, block: Tensor, scale: float) -> Callable[[int], None]:
        """What adds the derivative with respect to an operand, of the rows of a step."""
        target = self.target(operand, flat=True)
        assert target is not None
        if self._can_pack(self.own_gradient, target.rows):
            count = self.own.count
            return AffineSteps(
                [self.own_gradient.flat(0, count)],
                pack([block if scale == 1.0 else block * scale]),
                None,
                target.rows.flat(0, count),
                self._flat_ranges(),
                adds=not target.alone,
            )
        gradients = StepRows(self.own_gradient, self.ranges, flat=True)
        matrix = block.contiguous()
        return lambda number: target.add_product(number, gradients[number], matrix, scale)

    def backward(self, number: int) -> None:
        rows = self.gradients[number]
        for target, scale in self.bypass_targets:
            if target is not None:
                target.add(number, rows, scale)
        if self.scale_offset is not None:
            rows.mul_(self.scale_offset.scales)
        if self.kept is not None:
            kept = self.kept[slice(*self.ranges[number])]
            rows.mul_(FUNCTIONS[self.operation.activation].slope(kept))
        for product in self.products:
            product(number)

    def finish(self) -> None:
        terms = self.operation.terms
        sources = [t.rows.tensor for t in self.terms]
        needs = [not t.inside and self.run.outer[t.value].requires_grad for t in self.terms]
        weight, of_sources = affine_gradients(
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
            implementation=self.module.implementation,
        )
        self.run.add_parameter(self.module.linear, weight)
        if self.module.bias is not None and self.module.bias.requires_grad:
            self.run.add_parameter(self.module.bias, column_sums(self.own_gradient.all()))
        for operand, gradient in zip(self.terms, of_sources, strict=True):
            self.run.add_outer(operand.value, gradient)
