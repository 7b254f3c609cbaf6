"""Nonlinearities: functions of one row without parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from nnet.components.nonlinearity import UNSET_THRESHOLD
from nnet.kernels.functions import FUNCTIONS, ElementFunction
from nnet.kernels.normalization.renorm import renorm, renorm_gradient
from nnet.kernels.softmax.reference import AnyTargets, LogLikelihood, log_likelihood
from nnet.modules.base import ComponentModule, Split, StepFunction, StepGradients
from nnet.modules.registry import implements
from nnet.modules.statistics import Nonlinearity
from nnet.plan.times import Times


@implements("Elementwise")
class Elementwise(Nonlinearity):
    """A function of single numbers, by its name in `nnet.kernels.functions`."""

    @property
    def form(self) -> ElementFunction:
        """The function in each form in which it runs."""
        return FUNCTIONS[self.spec.function]

    def function(self, x: Tensor) -> Tensor:
        return self.form.value(x)

    def kept(self, x: Tensor, y: Tensor) -> Tensor:
        return self.form.kept(x, y)

    def slope(self, kept: Tensor) -> Tensor:
        return self.form.slope(kept)

    def input_gradient(self, kept: Tensor, gradient: Tensor) -> Tensor:
        return self.form.backward(gradient, kept)


class Gate(Elementwise):
    """A nonlinearity of gates; in loops without a copy.

    Subclasses define what torch has: `into(x, out=...)` and, by the output, the derivative
    `gradient_into(gradient, y, grad_input=...)`.
    """

    into: Callable[..., Tensor]
    gradient_into: Callable[..., Tensor]

    def forward_into(self, x: Tensor, times: Times, out: Tensor) -> None:
        self.into(x, out=out)

    @torch.no_grad()
    def forward_in_steps(
        self, x: Sequence[Tensor], out: Tensor, split: Split, *, keep: bool, overwrite: bool
    ) -> StepFunction | None:
        return _GateSteps(self, split(x[0]), split(out))

    @torch.no_grad()
    def derivative_in_steps(
        self, forward: StepFunction | None, gradients: StepGradients
    ) -> StepFunction | None:
        if not isinstance(forward, _GateSteps) or not gradients.alone[0]:
            return None
        sources, results = forward.sources, forward.results
        given = gradients.split(gradients.output)
        targets = gradients.split(gradients.targets[0])

        def step(number: int) -> None:
            y, of_y, of_x = results[number], given[number], targets[number]
            self.gradient_into(of_y, y, grad_input=of_x)
            if self.storing:
                of_x.copy_(self.observed(of_x, sources[number], y, of_y))

        return step


class _GateSteps:
    """A gate in a loop."""

    def __init__(self, module: Gate, sources: Sequence[Tensor], results: Sequence[Tensor]) -> None:
        self.into = module.into
        self.sources = sources
        self.results = results

    def __call__(self, number: int) -> None:
        self.into(self.sources[number], out=self.results[number])


@implements("SigmoidComponent")
class Sigmoid(Gate):
    lower_threshold = 0.05
    into = staticmethod(torch.sigmoid)
    gradient_into = staticmethod(torch.ops.aten.sigmoid_backward.grad_input)

    def repair(self, kept: Tensor) -> Tensor:
        return 2.0 * kept - 1.0


@implements("TanhComponent")
class Tanh(Gate):
    lower_threshold = 0.2
    into = staticmethod(torch.tanh)
    gradient_into = staticmethod(torch.ops.aten.tanh_backward.grad_input)

    def repair(self, kept: Tensor) -> Tensor:
        return kept


@implements("RectifiedLinearComponent")
class RectifiedLinear(Elementwise):
    """Self-repair also lowers the inputs of units that are nearly always on."""

    lower_threshold = 0.05
    UPPER_THRESHOLD = 0.95

    def forward_into(self, x: Tensor, times: Times, out: Tensor) -> None:
        torch.clamp_min(x, 0, out=out)

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

    def log_likelihood(
        self, x: Tensor, targets: AnyTargets, *, consume: bool = False
    ) -> LogLikelihood:
        """The log-likelihood of targets for rows (rows, dim), without making the log-softmax."""
        results = log_likelihood(x, targets, consume=consume, implementation=self.implementation)
        if self.storing and results.objective.requires_grad:
            results.objective.register_hook(
                lambda gradient: self.store_squares(
                    lambda: targets.scaled(gradient).squares(x.shape[1]), len(x)
                )
            )
        return results


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
