"""The parts of gated recurrent units that feed back, in steps of a loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nnet.kernels.cells.gru_cpu import GruParts, NativeGru, NativeGruDerivative
from nnet.kernels.native_rows import step_ranges
from nnet.modules.base import Split, StepFunction, StepGradients

if TYPE_CHECKING:
    from nnet.modules.gru import AnyGruNonlinearity


class NativeSteps:
    """The cell where w_h c' feeds back, unit by unit: in one pass over memory a step."""

    def __init__(
        self, module: AnyGruNonlinearity, x: Sequence[Tensor], out: Tensor, split: Split
    ) -> None:
        self.module = module
        self.parts = GruParts(*module.ordered(x))
        self.h = split(out[..., : module.cell_dim])
        self.ranges = step_ranges(out, self.h)
        self.native = self._native(out)

    def _native(self, out: Tensor) -> NativeGru:
        return NativeGru(self.parts, out, weights=self.module.w_h.detach())

    def __call__(self, number: int) -> None:
        self.native.forward(*self.ranges[number])

    def derivative(self, gradients: StepGradients) -> StepFunction | None:
        """The derivative, as `derivative_in_steps` gives it."""
        return NativeDerivative(self, gradients)


class NativeDerivative:
    """The derivative of a cell, and that by w_h, which is summed up on the way."""

    def __init__(self, forward: NativeSteps, gradients: StepGradients) -> None:
        module, gradient = forward.module, gradients.output
        self.forward = forward
        self.module = module
        parts = GruParts(*module.ordered(gradients.targets))
        adds = [not flag for flag in module.ordered(gradients.alone)]
        self.inner = torch.empty_like(parts.inner) if adds[1] else parts.inner
        self.repair = gradient.new_zeros(module.cell_dim) if module.storing else None
        self.native = NativeGruDerivative(
            forward.native, gradient, parts, adds, self.inner, self.repair
        )

    def __call__(self, number: int) -> None:
        if self.repair is not None:
            scales = self.module.repair_scales(self.forward.h[number])
            self.repair.zero_() if scales is None else self.repair.copy_(scales)
        self.native.backward(*self.forward.ranges[number])

    def parameter_gradients(self) -> Sequence[Tensor | None]:
        """The gradient for w_h, after all steps."""
        w_h = self.module.w_h
        if not w_h.requires_grad:
            return []
        if not self.module.row_observers:
            return [self.native.sums.to(w_h.dtype)]
        return [self.module.weights_gradient(self.forward.parts.previous, self.inner)]


class NativeResetSteps(NativeSteps):
    """The cell where w_h (s' r) feeds back: a product of matrices between two passes."""

    def __init__(
        self, module: AnyGruNonlinearity, x: Sequence[Tensor], out: Tensor, split: Split
    ) -> None:
        super().__init__(module, x, out, split)
        self.matrix = module.w_h.detach().t().contiguous()
        self.fed = [rows.flatten(0, 1) for rows in self.h]
        self.products = [rows.flatten(0, 1) for rows in split(self.product)]

    def _native(self, out: Tensor) -> NativeGru:
        gate = self.parts.reset
        assert gate is not None
        self.product = gate.new_empty(gate.shape)
        return NativeGru(self.parts, out, product=self.product)

    def __call__(self, number: int) -> None:
        first, end = self.ranges[number]
        self.native.reset(first, end)
        torch.mm(self.products[number], self.matrix, out=self.fed[number])
        self.native.forward(first, end)

    def derivative(self, gradients: StepGradients) -> StepFunction | None:
        _, of_gate_alone, *_ = gradients.alone
        return NativeResetDerivative(self, gradients) if of_gate_alone else None


class NativeResetDerivative(NativeDerivative):
    """Its derivative; that by w_h is a product over all steps."""

    def __init__(self, forward: NativeResetSteps, gradients: StepGradients) -> None:
        super().__init__(forward, gradients)
        _, of_gate, *_ = gradients.targets
        split = gradients.split
        self.product = forward.product
        self.matrix = self.module.w_h.detach()
        self.before_tanh = [rows.flatten(0, 1) for rows in split(self.inner)]
        self.of_product = [rows.flatten(0, 1) for rows in split(of_gate)]

    def __call__(self, number: int) -> None:
        super().__call__(number)
        torch.mm(self.before_tanh[number], self.matrix, out=self.of_product[number])
        self.native.spread(*self.forward.ranges[number])

    def parameter_gradients(self) -> Sequence[Tensor | None]:
        """The gradient for w_h, after all steps."""
        wanted = self.module.w_h.requires_grad
        return [self.module.weights_gradient(self.product, self.inner)] if wanted else []


class RepairedSteps:
    """The cell in torch, one whose derivative is repaired step by step."""

    def __init__(
        self, module: AnyGruNonlinearity, x: Sequence[Tensor], out: Tensor, split: Split
    ) -> None:
        self.module = module
        self.x = x
        self.blocks = list(zip(*map(split, x), strict=True))
        self.results = split(out)

    def source(self, number: int) -> Tensor:
        """What a step reads, (rows, batch, dim)."""
        return torch.cat(self.blocks[number], dim=-1)

    def __call__(self, number: int) -> None:
        self.results[number].copy_(self.module.computed(self.source(number)))

    def derivative(self, gradients: StepGradients) -> StepFunction:
        """The derivative, as `derivative_in_steps` gives it."""
        return RepairedDerivative(self, gradients)


class RepairedDerivative:
    """Its derivative; that by w_h is taken over all steps."""

    def __init__(self, forward: RepairedSteps, gradients: StepGradients) -> None:
        split = gradients.split
        self.forward = forward
        self.module = forward.module
        self.gradients = split(gradients.output)
        self.targets = [split(target) for target in gradients.targets]
        self.alone = gradients.alone
        before_tanh = gradients.output[..., : self.module.cell_dim]
        self.inner = torch.empty_like(before_tanh, memory_format=torch.contiguous_format)
        self.steps = split(self.inner)

    def __call__(self, number: int) -> None:
        forward = self.forward
        found, self.steps[number][:] = self.module.both_derivatives(
            forward.source(number), forward.results[number], self.gradients[number]
        )
        parts = found.split([target[number].shape[-1] for target in self.targets], dim=-1)
        for target, part, written in zip(self.targets, parts, self.alone, strict=True):
            if written:
                target[number].copy_(part)
            else:
                target[number].add_(part)

    def parameter_gradients(self) -> Sequence[Tensor | None]:
        """The gradient for w_h, after all steps."""
        if not self.module.w_h.requires_grad:
            return []
        rows = self.module.fed_rows(torch.cat(list(self.forward.x), dim=-1))
        return [self.module.weights_gradient(rows, self.inner)]
