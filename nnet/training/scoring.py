"""Running a module on minibatches and scoring its outputs."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from nnet.data.minibatch import Minibatch
from nnet.modules.base import ComponentModule
from nnet.modules.batchnorm import BatchNorm
from nnet.modules.registry import make_module
from nnet.modules.statistics import StatisticsModule
from nnet.runtime.compiled import CompiledNetwork
from nnet.runtime.logits import Logits, Output, finished
from nnet.training.objectives import Objective, Scores
from nnet.training.tallies import Tally, added, tallies


class Scorer:
    """A module and what it is trained for.

    Args:
        module: a compiled network on its device.
        objective: scores its outputs.
        bf16: compute in bfloat16 where torch's autocast thinks it safe; parameters and the
            objective stay in float32.
    """

    def __init__(
        self, module: CompiledNetwork, objective: Objective, *, bf16: bool = False
    ) -> None:
        self.module = module
        self._objective = objective
        self._bf16 = bf16

    def run(self, minibatch: Minibatch) -> dict[str, Tensor]:
        """The outputs that are wanted, (batch, time, dim), in float32."""
        outputs = self._outputs(minibatch)
        return {name: finished(output).float() for name, output in outputs.items()}

    def __call__(self, minibatch: Minibatch) -> Scores:
        """The scores of the outputs on the minibatch."""
        outputs = self._outputs(minibatch)
        whole = {n: o if isinstance(o, Logits) else o.float() for n, o in outputs.items()}
        return self._objective(whole, minibatch)

    def _outputs(self, minibatch: Minibatch) -> Mapping[str, Output]:
        device = next(iter(minibatch.inputs.values())).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self._bf16):
            return self.module.outputs(minibatch.inputs, minibatch.request)


@torch.no_grad()
def evaluate(scorer: Scorer, minibatches: Iterable[Minibatch]) -> dict[str, Tally]:
    """Scores minibatches in test mode. The module is in training mode afterwards."""
    sums: dict[str, Tally] = {}
    scorer.module.eval()
    for minibatch in minibatches:
        sums = added(sums, tallies(scorer(minibatch)))
    scorer.module.train()
    return sums


@torch.no_grad()
def average_posterior(scorer: Scorer, output: str, minibatches: Iterable[Minibatch]) -> Tensor:
    """The mean over frames of what a log-softmax output gives, float64 (dim,): Kaldi's priors.

    Minibatches without this output do not count. The module is in training mode afterwards.
    """
    total = torch.zeros((), dtype=torch.float64)
    scorer.module.eval()
    for minibatch in minibatches:
        outputs = scorer.run(minibatch)
        if output in outputs:
            total = total + outputs[output].exp().flatten(0, -2).sum(0).double().cpu()
    scorer.module.train()
    return total / total.sum()


def has_statistics(module: nn.Module) -> bool:
    """Whether some component needs statistics of its input in test mode (batch-norm)."""
    return any(isinstance(m, BatchNorm) for m in module.modules())


def zero_batchnorm(module: nn.Module) -> None:
    """Forgets the stored batch-norm statistics."""
    for submodule in module.modules():
        if isinstance(submodule, BatchNorm):
            submodule.zero_stats()


def zero_activation_statistics(module: nn.Module) -> None:
    """Forgets the stored averages of nonlinearities' values and derivatives."""
    for submodule in module.modules():
        if isinstance(submodule, StatisticsModule):
            submodule.zero_stats()


def scale_module(module: nn.Module, factor: float) -> None:
    """Scales parameters and counts of statistics, as nnet3-copy --scale does."""
    for submodule in module.modules():
        if isinstance(submodule, ComponentModule):
            component = copy.deepcopy(submodule.to_spec())
            component.scale(factor)
            submodule.load_state_dict(make_module(component).state_dict())


@torch.no_grad()
def refresh_statistics(scorer: Scorer, minibatches: Iterable[Minibatch]) -> None:
    """Estimates batch-norm statistics anew, with the present parameters.

    All else is as in training. Dropout stays on, as in nnet3: the noise belongs to the variance by
    which the following layers learned to see their input divided. nnet3 instead keeps what it
    gathered while the parameters still moved, scaled down by 0.8 an iteration.
    """
    scorer.module.train()
    zero_batchnorm(scorer.module)
    for minibatch in minibatches:
        scorer.run(minibatch)
