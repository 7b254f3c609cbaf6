"""Nonlinearities: functions of one row without parameters."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nnet.components.nonlinearity import UNSET_THRESHOLD
from nnet.kernels.renorm import renorm, renorm_gradient
from nnet.modules.registry import ComponentModule, implements
from nnet.modules.statistics import Nonlinearity
from nnet.plan.times import Times


@implements("SigmoidComponent")
class Sigmoid(Nonlinearity):
    lower_threshold = 0.05

    def function(self, x: Tensor) -> Tensor:
        return x.sigmoid()

    def forward_into(self, x: Tensor, times: Times, out: Tensor) -> None:
        torch.sigmoid(x, out=out)

    def slope(self, y: Tensor) -> Tensor:
        return y * (1.0 - y)

    def repair(self, y: Tensor) -> Tensor:
        return 2.0 * y - 1.0


@implements("TanhComponent")
class Tanh(Nonlinearity):
    lower_threshold = 0.2

    def function(self, x: Tensor) -> Tensor:
        return x.tanh()

    def forward_into(self, x: Tensor, times: Times, out: Tensor) -> None:
        torch.tanh(x, out=out)

    def slope(self, y: Tensor) -> Tensor:
        return 1.0 - y * y

    def repair(self, y: Tensor) -> Tensor:
        return y


@implements("RectifiedLinearComponent")
class RectifiedLinear(Nonlinearity):
    """Self-repair also lowers the inputs of units that are nearly always on."""

    lower_threshold = 0.05
    UPPER_THRESHOLD = 0.95

    def function(self, x: Tensor) -> Tensor:
        return x.relu()

    def forward_into(self, x: Tensor, times: Times, out: Tensor) -> None:
        torch.clamp_min(x, 0, out=out)

    def slope(self, y: Tensor) -> Tensor:
        return y.sign()

    def input_gradient(self, y: Tensor, gradient: Tensor) -> Tensor:
        return torch.ops.aten.threshold_backward(gradient, y, 0)

    def _processed(self, *, before: bool) -> int:
        return 0 if before else self.spec.block_dim

    def _wrong(self, slope: Tensor) -> Tensor:
        """-1 for units that are on too rarely, 1 for those that are on too often."""
        blocks = self.spec.dim // self.spec.block_dim
        slope = slope.view(blocks, -1).mean(0)
        upper = self.spec.self_repair_upper_threshold
        upper = self.UPPER_THRESHOLD if upper == UNSET_THRESHOLD else upper
        wrong = (slope > upper).to(slope.dtype) - super()._wrong(slope)
        return wrong.repeat(blocks)


@implements("SoftmaxComponent")
class Softmax(Nonlinearity):
    """Probabilities, floored at 1e-20 as nnet3 does; the floor does not stop the derivative."""

    _stores_values = True

    def function(self, x: Tensor) -> Tensor:
        probabilities = functional.softmax(x, dim=-1)
        return probabilities + (probabilities.clamp_min(1e-20) - probabilities).detach()


@implements("LogSoftmaxComponent")
class LogSoftmax(Nonlinearity):
    def function(self, x: Tensor) -> Tensor:
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

    def forward(self, x: Tensor, times: Times) -> Tensor:
        return renorm(x, *self._options, implementation=self.implementation)

    @torch.no_grad()
    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        return renorm_gradient(x, gradient, *self._options, implementation=self.implementation)

    @property
    def _options(self) -> tuple[int, float, bool]:
        return self.spec.block_dim, self.spec.target_rms, self.spec.add_log_stddev
