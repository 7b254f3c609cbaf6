"""Components that move or add up columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nnet.modules.base import ComponentModule, Split, StepFunction, StepGradients
from nnet.modules.registry import implements
from nnet.plan.times import Times


class _ScaleGradient(Function):
    """The identity, whose derivative is multiplied by a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.scale, None


@implements("NoOpComponent")
class NoOp(ComponentModule):
    """The identity; `backprop_scale` multiplies the derivative."""

    def forward(self, x: Tensor, times: Times) -> Tensor:
        if self.spec.backprop_scale == 1.0:
            return x
        return _ScaleGradient.apply(x, self.spec.backprop_scale)

    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        return gradient * self.spec.backprop_scale


@implements("PermuteComponent")
class Permute(ComponentModule):
    """Column i of the output is column `column_map[i]` of the input."""

    columns: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.register_buffer("columns", torch.tensor(list(spec.column_map)), persistent=False)

    def forward(self, x: Tensor, times: Times) -> Tensor:
        return x.index_select(-1, self.columns)


@implements("SumGroupComponent")
class SumGroup(ComponentModule):
    """Column i of the output is the sum of `sizes[i]` adjacent columns of the input."""

    group: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        groups = torch.arange(len(spec.sizes)).repeat_interleave(torch.tensor(list(spec.sizes)))
        self.register_buffer("group", groups, persistent=False)

    def forward(self, x: Tensor, times: Times) -> Tensor:
        zeros = x.new_zeros((*x.shape[:-1], self.spec.output_dim))
        return zeros.index_add(-1, self.group, x)


@implements("SumBlockComponent")
class SumBlock(ComponentModule):
    """The sum of the blocks of columns, times a factor."""

    def forward(self, x: Tensor, times: Times) -> Tensor:
        blocks = x.unflatten(-1, (self.spec.num_blocks, -1))
        return blocks.sum(dim=-2) * self.spec.factor

    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        return (gradient * self.spec.factor).repeat(1, 1, self.spec.num_blocks)


@implements("ElementwiseProductComponent")
class ElementwiseProduct(ComponentModule):
    """The product of the blocks of columns, element by element."""

    def forward(self, x: Tensor, times: Times) -> Tensor:
        first, *rest = x.split(self.spec.output_dim, dim=-1)
        for block in rest:
            first = first * block
        return first

    def forward_into(self, x: Tensor, times: Times, out: Tensor) -> None:
        first, second, *rest = x.split(self.spec.output_dim, dim=-1)
        torch.mul(first, second, out=out)
        for block in rest:
            out *= block

    @torch.no_grad()
    def forward_in_steps(
        self, x: Sequence[Tensor], out: Tensor, split: Split, *, keep: bool, overwrite: bool
    ) -> StepFunction | None:
        return _PairSteps(*map(split, (*x, out))) if len(x) == 2 else None

    @torch.no_grad()
    def derivative_in_steps(
        self, forward: StepFunction | None, gradients: StepGradients
    ) -> StepFunction | None:
        if not isinstance(forward, _PairSteps):
            return None
        given = gradients.split(gradients.output)
        targets = map(gradients.split, gradients.targets)
        others = (forward.second, forward.first)
        parts = list(zip(targets, others, gradients.alone, strict=True))

        def step(number: int) -> None:
            for target, other, written in parts:
                if written:
                    torch.mul(given[number], other[number], out=target[number])
                else:
                    target[number].addcmul_(given[number], other[number])

        return step

    @torch.no_grad()
    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        blocks = x.split(self.spec.output_dim, dim=-1)
        result = torch.empty_like(x, memory_format=torch.contiguous_format)
        for number, target in enumerate(result.split(self.spec.output_dim, dim=-1)):
            target.copy_(gradient)
            for other, block in enumerate(blocks):
                if other != number:
                    target *= block
        return result


class _PairSteps:
    """The product of two blocks in a loop."""

    def __init__(
        self, first: Sequence[Tensor], second: Sequence[Tensor], results: Sequence[Tensor]
    ) -> None:
        self.first = first
        self.second = second
        self.results = results

    def __call__(self, number: int) -> None:
        torch.mul(self.first[number], self.second[number], out=self.results[number])
