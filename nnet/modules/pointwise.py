"""Nonlinearities: functions of one row without parameters."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nnet.modules.registry import ComponentModule, implements
from nnet.plan.times import Times


@implements("SigmoidComponent")
class Sigmoid(ComponentModule):
    def forward(self, x: Tensor, times: Times) -> Tensor:
        return x.sigmoid()


@implements("TanhComponent")
class Tanh(ComponentModule):
    def forward(self, x: Tensor, times: Times) -> Tensor:
        return x.tanh()


@implements("RectifiedLinearComponent")
class RectifiedLinear(ComponentModule):
    def forward(self, x: Tensor, times: Times) -> Tensor:
        return x.relu()


@implements("SoftmaxComponent")
class Softmax(ComponentModule):
    """Probabilities, floored at 1e-20 as nnet3 does; the floor does not stop the derivative."""

    def forward(self, x: Tensor, times: Times) -> Tensor:
        probabilities = functional.softmax(x, dim=-1)
        return probabilities + (probabilities.clamp_min(1e-20) - probabilities).detach()


@implements("LogSoftmaxComponent")
class LogSoftmax(ComponentModule):
    def forward(self, x: Tensor, times: Times) -> Tensor:
        return functional.log_softmax(x, dim=-1)


@implements("PnormComponent")
class Pnorm(ComponentModule):
    """The 2-norm of each group of input_dim / output_dim columns."""

    def forward(self, x: Tensor, times: Times) -> Tensor:
        return x.unflatten(-1, (self.spec.output_dim, -1)).norm(dim=-1)


@implements("NormalizeComponent")
class Normalize(ComponentModule):
    """Scales blocks of `block_dim` columns to root-mean-square `target_rms` (nnet3's renorm).

    With `add_log_stddev`, each block gets one more column: the log of its root-mean-square.
    """

    SQUARED_NORM_FLOOR = 2.0**-66

    def forward(self, x: Tensor, times: Times) -> Tensor:
        blocks = x.unflatten(-1, (-1, self.spec.block_dim))
        target_rms = self.spec.target_rms
        power = blocks.square().mean(dim=-1, keepdim=True) / target_rms**2
        power = power.clamp_min(self.SQUARED_NORM_FLOOR)
        result = blocks * power.rsqrt()
        if self.spec.add_log_stddev:
            log_stddev = (power * target_rms**2).log() * 0.5
            result = torch.cat((result, log_stddev), dim=-1)
        return result.flatten(-2)
