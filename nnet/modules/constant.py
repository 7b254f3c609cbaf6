"""Components whose output is a trained vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nnet.modules.base import ComponentModule
from nnet.modules.registry import implements
from nnet.plan.times import Times


@implements("ConstantComponent", "ConstantFunctionComponent")
class Constant(ComponentModule):
    """Gives the same row at every time, whatever the input."""

    output: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.output = nn.Parameter(torch.tensor(spec.output), requires_grad=spec.is_updatable)

    def forward(self, x: Tensor, times: Times) -> Tensor:
        output = self.output if torch.is_grad_enabled() else self.output.detach()
        rows = output.expand(*x.shape[:-1], -1)
        return self.watched(rows, output=lambda gradient: gradient.flatten(0, -2))

    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        return torch.zeros_like(x)
