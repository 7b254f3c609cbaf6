"""Functions that nnet3 has no component for (nnet.components.power)."""

from __future__ import annotations

from torch import Tensor

from nnet.modules.base import ComponentModule
from nnet.modules.registry import implements
from nnet.plan.times import Times


@implements("PowerComponent")
class Power(ComponentModule):
    def forward(self, x: Tensor, times: Times) -> Tensor:
        return x.abs() ** self.spec.power


@implements("LogComponent")
class Log(ComponentModule):
    def forward(self, x: Tensor, times: Times) -> Tensor:
        return x.clamp_min(self.spec.floor).log()
