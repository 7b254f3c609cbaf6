"""Running a module on minibatches and scoring one of its outputs."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from nnet.data.minibatch import Minibatch
from nnet.modules.batchnorm import BatchNorm
from nnet.modules.compiled import CompiledNetwork
from nnet.plan.request import Request
from nnet.training.objectives import OBJECTIVES, Score


class Scorer:
    """A module, the output that is trained, and its objective.

    Args:
        module: a compiled network on its device.
        output: name of the output node.
        objective: 'linear' or 'quadratic'.
        subsampling: frame subsampling factor.
        bf16: compute in bfloat16 where torch's autocast thinks it safe; parameters and the
            objective stay in float32.
    """

    def __init__(
        self,
        module: CompiledNetwork,
        output: str,
        objective: str,
        subsampling: int = 1,
        bf16: bool = False,
    ) -> None:
        self.module = module
        self._output = output
        self._objective = OBJECTIVES[objective]
        self._subsampling = subsampling
        self._bf16 = bf16
        self.request_of = functools.lru_cache(maxsize=None)(self._request_of)

    def _request_of(self, frames: int) -> Request:
        return self.module.chunk_request(
            frames, subsampling=self._subsampling, outputs=(self._output,)
        )

    def run(self, minibatch: Minibatch) -> torch.Tensor:
        """The output, (batch, time, dim), in float32."""
        device = minibatch.inputs["input"].device.type
        with torch.autocast(device, torch.bfloat16, enabled=self._bf16):
            outputs = self.module(minibatch.inputs, minibatch.request)
        result: torch.Tensor = outputs[self._output].float()
        return result

    def __call__(self, minibatch: Minibatch) -> Score:
        """The objective of the output on the minibatch."""
        return self._objective(self.run(minibatch), minibatch.targets)


@dataclass(frozen=True)
class Averages:
    """Objective and accuracy per frame over a data set of `weight` output frames."""

    objective: float
    accuracy: float | None
    weight: float


@torch.no_grad()
def evaluate(scorer: Scorer, minibatches: Iterable[Minibatch]) -> Averages:
    """Scores minibatches in test mode. The module is in training mode afterwards."""
    total = weight = correct = 0.0
    has_accuracy = True
    scorer.module.eval()
    for minibatch in minibatches:
        score = scorer(minibatch)
        total += score.total.item()
        weight += score.weight.item()
        has_accuracy = score.correct is not None
        correct += score.correct.item() if score.correct is not None else 0.0
    scorer.module.train()
    weight = weight or float("nan")
    return Averages(total / weight, correct / weight if has_accuracy else None, weight)


@torch.no_grad()
def average_posterior(scorer: Scorer, minibatches: Iterable[Minibatch]) -> torch.Tensor:
    """The mean over frames of what a log-softmax output gives, float64 (dim,): Kaldi's priors.

    The module is in training mode afterwards.
    """
    total = torch.zeros((), dtype=torch.float64)
    scorer.module.eval()
    for minibatch in minibatches:
        total = total + scorer.run(minibatch).exp().flatten(0, -2).sum(0).double().cpu()
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
