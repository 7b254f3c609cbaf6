"""LF-MMI as the objective of training."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from nnet.data.chain.minibatch import ChainTargets
from nnet.data.minibatch import Minibatch
from nnet.errors import NnetError
from nnet.kernels.chain.lfmmi import LfMmi, lfmmi
from nnet.kernels.chain.transitions import Transitions
from nnet.kernels.implementation import Implementation, triton_is_installed
from nnet.modelfile.chain_examples import XENT
from nnet.runtime.logits import Logits, Output, finished
from nnet.training.lfmmi.options import ChainOptions
from nnet.training.objectives import Score, Scores

log = logging.getLogger(__name__)


class ChainObjective:
    """Scores outputs by LF-MMI, and those named `-xent` by cross-entropy with the numerator's
    posteriors (nnet3's NnetChainTrainer).

    Args:
        transitions: of the denominator graph.
        options: of the objective.
        implementation: of the denominator's recursions; by default Triton's where the outputs are
            on a CUDA device.
    """

    def __init__(
        self,
        transitions: Transitions,
        options: ChainOptions,
        implementation: Implementation | None = None,
    ) -> None:
        self._transitions = transitions
        self._options = options
        self._implementation = implementation
        self._placed: dict[tuple[torch.device, torch.dtype], Transitions] = {}

    def __call__(self, outputs: Mapping[str, Output], minibatch: Minibatch) -> Scores:
        """The scores of all supervised outputs, and of the `-xent` ones that there are."""
        scores: dict[str, Score] = {}
        for name, targets in minibatch.targets.items():
            if not isinstance(targets, ChainTargets):
                raise NnetError(f"the examples have no LF-MMI supervision of '{name}'")
            scores.update(self._score(name, targets, outputs))
        return scores

    def _score(
        self, name: str, targets: ChainTargets, outputs: Mapping[str, Output]
    ) -> dict[str, Score]:
        output = finished(outputs[name]).transpose(0, 1)
        deriv_weights = targets.deriv_weights if self._options.apply_deriv_weights else None
        result = lfmmi(
            output,
            targets.graphs,
            self._transitions_like(output),
            leaky_hmm_coefficient=self._options.leaky_hmm_coefficient,
            out_of_range_regularize=self._options.out_of_range_regularize,
            weight=targets.weight,
            deriv_weights=deriv_weights,
            implementation=self._implementation or _usual_implementation(output),
        )
        if result.failed:
            log.warning(
                "the LF-MMI objective of '%s' is not finite or its posteriors are wrong: this "
                "minibatch counts as -10 per frame and is not learned from",
                name,
            )
        weight = torch.full_like(result.total, targets.weight * targets.sequences * targets.frames)
        l2 = self._l2(output, targets.weight, deriv_weights)
        scores = {name: Score(result.total, weight, auxiliary=l2)}
        if name + XENT in outputs and self._options.xent_regularize:
            total = _cross_entropy(outputs[name + XENT], result, deriv_weights)
            regularizer = self._options.xent_regularize
            scores[name + XENT] = Score(total, weight, regularizer=regularizer)
        return scores

    def _transitions_like(self, output: Tensor) -> Transitions:
        key = (output.device, output.dtype)
        if key not in self._placed:
            self._placed[key] = self._transitions.to(*key)
        return self._placed[key]

    def _l2(self, output: Tensor, weight: float, deriv_weights: Tensor | None) -> Tensor | None:
        scale = self._options.l2_regularize * weight
        if not scale:
            return None
        return _weighted_sum(output.square().sum(-1) * (-0.5 * scale), deriv_weights)


def _usual_implementation(output: Tensor) -> Implementation:
    return "triton" if output.is_cuda and triton_is_installed() else "reference"


def _cross_entropy(xent: Output, result: LfMmi, deriv_weights: Tensor | None) -> Tensor:
    """The sum of the numerator's posteriors times a log-softmax."""
    if isinstance(xent, Logits):
        found = xent.listed_log_likelihood(result.positions, result.posteriors)
        return _weighted_sum(found.objective.t(), deriv_weights)
    terms = xent.transpose(0, 1).reshape(-1)[result.positions] * result.posteriors
    if deriv_weights is None:
        return terms.sum()
    return _weighted_sum(terms, deriv_weights.reshape(-1)[result.positions // xent.shape[-1]])


def _weighted_sum(terms: Tensor, deriv_weights: Tensor | None) -> Tensor:
    """The sum of terms; its derivative is that of their weighted sum."""
    if deriv_weights is None:
        return terms.sum()
    weighted = (terms * deriv_weights).sum()
    return weighted + (terms.sum() - weighted).detach()
