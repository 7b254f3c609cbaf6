"""The affine transform inside a loop."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nnet.kernels.spliced_affine import ACTIVATIONS, affine_gradients
from nnet.modules.affine import AnyAffine
from nnet.modules.elementwise import ScaleOffset
from nnet.modules.loop_rows import Run, Step
from nnet.plan import ir
from nnet.plan.ir import Value


class AffineStep(Step):
    """Terms outside the loop are multiplied before it, with the bias; the others in it."""

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
        blocks = module.linear.detach().split([rows.dim for rows in operation.terms], dim=1)
        triples = list(zip(self.terms, blocks, operation.terms, strict=True))
        self.outer = [(t.rows, block, rows.scale) for t, block, rows in triples if not t.inside]
        self.inner = [(t, t.rows, block.t(), rows.scale) for t, block, rows in triples if t.inside]
        self.bias = None if module.bias is None else module.bias.detach()
        self.activated: Tensor | None = None
        if run.tracked and operation.activation:
            place = self.own.place
            self.activated = run.like.new_empty((place.count, run.like.shape[1], place.dim))

    def prepare(self) -> None:
        if not self.outer:
            return
        count = self.own.count
        result = self.own.flat(0, count)
        started = False
        for rows, block, scale in self.outer:
            if rows.place.step == 0 and count > 1:
                continue
            source = rows.flat(0, count)
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
            if rows.place.step == 0 and count > 1:  # the same at all times
                self.own.all().add_(torch.mm(rows.flat(0, 1), block.t()), alpha=scale)

    def forward(self, first: int, end: int) -> None:
        result = self.own.flat(first, end)
        started = bool(self.outer)
        for _, rows, block, scale in self.inner:
            source = rows.flat(first, end)
            if started:
                result.addmm_(source, block, alpha=scale)
            elif self.bias is not None:
                torch.addmm(self.bias, source, block, alpha=scale, out=result)
            elif scale != 1.0:
                torch.addmm(result, source, block, alpha=scale, beta=0.0, out=result)
            else:
                torch.mm(source, block, out=result)
            started = True
        if not (self.operation.activation or self.scale_offset or self.bypass):
            return
        made = self.own.take(first, end)
        if self.operation.activation:
            ACTIVATIONS[self.operation.activation](made)
            if self.activated is not None:
                self.activated[first:end] = made
        if self.scale_offset is not None:
            made.mul_(self.scale_offset.scales).add_(self.scale_offset.offsets)
        for operand, scale in self.bypass:
            made.add_(operand.rows.take(first, end), alpha=scale)

    def start_backward(self) -> None:
        super().start_backward()
        self._inner_gradients = [self.run.gradients(t.value, t.place) for t, *_ in self.inner]
        self._bypass_gradients = [operand.gradient() for operand, _ in self.bypass]

    def backward(self, first: int, end: int) -> None:
        rows = self.own_gradient.take(first, end)
        for (_, scale), target in zip(self.bypass, self._bypass_gradients, strict=True):
            if target is not None:
                target.add(first, end, rows, scale)
        if self.scale_offset is not None:
            rows.mul_(self.scale_offset.scales)
        if self.activated is not None:
            rows.mul_(_SLOPES[self.operation.activation](self.activated[first:end]))
        gradient = self.own_gradient.flat(first, end)
        for (_, _, block, scale), target in zip(self.inner, self._inner_gradients, strict=True):
            target.add_product(first, end, gradient, block.t(), scale)

    def finish(self) -> None:
        terms = self.operation.terms
        sources = [t.rows.tensor for t in self.terms]
        needs = [not t.inside and self.run.outer_gradient(t.value) is not None for t in self.terms]
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
            self.run.add_parameter(self.module.bias, self.own_gradient.all().sum(dim=(0, 1)))
        for operand, gradient in zip(self.terms, found, strict=True):
            target = self.run.outer_gradient(operand.value) if gradient is not None else None
            if target is not None and gradient is not None:
                target.add_(gradient)


_SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda y: (y > 0).to(y.dtype),
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: 1 - y * y,
}
