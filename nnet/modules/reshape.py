"""Components that move or add up columns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx

from nnet.modules.registry import ComponentModule, implements
from nnet.plan.times import Times


class _ScaleGradient(Function):
    """The identity, whose derivative is multiplied by a constant."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale  # type: ignore[attr-defined]
        return x.view_as(x)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.scale, None  # type: ignore[attr-defined]


@implements("NoOpComponent")
class NoOp(ComponentModule):
    """The identity; `backprop_scale` multiplies the derivative."""

    def forward(self, x: Tensor, times: Times) -> Tensor:
        if self.spec.backprop_scale == 1.0:
            return x
        return _ScaleGradient.apply(x, self.spec.backprop_scale)


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
