"""The LF-MMI objective: log-probability of what was spoken less that of all that could have been.

nnet3's ComputeChainObjfAndDeriv. Objective and derivative are made together, for the derivative is
what both recursions are for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from nnet.kernels.chain.denominator import denominator
from nnet.kernels.chain.numerator import NumeratorGraphs, numerator
from nnet.kernels.chain.transitions import LIMIT, Transitions
from nnet.kernels.implementation import Implementation

FAILED = -10.0
"""The objective per frame that stands for one that cannot be computed."""


class LfMmi(NamedTuple):
    """The objective of a minibatch.

    Attributes:
        total: numerator less denominator, a scalar, times the supervision's weight.
        positions: elements of the output (time, sequences, pdfs) with numerator posteriors, int64.
        posteriors: of these, times the supervision's weight; zero if the objective failed.
        failed: a scalar bool: something was not finite, so that `total` is -10 a frame and without
            a derivative.
    """

    total: Tensor
    positions: Tensor
    posteriors: Tensor
    failed: Tensor


def lfmmi(
    output: Tensor,
    graphs: NumeratorGraphs,
    transitions: Transitions,
    *,
    leaky_hmm_coefficient: float = 1e-5,
    out_of_range_regularize: float = 0.01,
    weight: float = 1.0,
    deriv_weights: Tensor | None = None,
    implementation: Implementation = "reference",
) -> LfMmi:
    """The objective, whose derivative by `output` autograd gets.

    The derivative, but not the value, has a penalty: the excess of outputs beyond +-30 times
    `out_of_range_regularize` is subtracted. (Kaldi subtracts twice that in a random half of the
    minibatches.)

    Args:
        output: pseudo log-likelihoods (time, sequences, pdfs), float32 or float64.
        graphs: what was spoken.
        transitions: of the denominator graph, on the same device and of the same type.
        leaky_hmm_coefficient: of the denominator.
        out_of_range_regularize: see above.
        weight: of the supervision, in value and derivative.
        deriv_weights: (time, sequences), by which the derivative is multiplied.
        implementation: which code computes the denominator.
    """
    options = (leaky_hmm_coefficient, out_of_range_regularize, weight, implementation)
    return LfMmi(*_LfMmi.apply(output.contiguous(), graphs, transitions, deriv_weights, options))


class _LfMmi(Function):
    @staticmethod
    def forward(
        ctx: Any,
        output: Tensor,
        graphs: NumeratorGraphs,
        transitions: Transitions,
        deriv_weights: Tensor | None,
        options: tuple[float, float, float, Implementation],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        leak, out_of_range, weight, implementation = options
        scale = -weight if ctx.needs_input_grad[0] else None
        all_paths = denominator(
            output, transitions, leak, scale=scale, implementation=implementation
        )
        right_paths = numerator(output, graphs)
        difference = right_paths.log_probs.sum() - all_paths.log_probs.double().sum()
        failed = ~(all_paths.ok & difference.isfinite())
        frames = output.shape[0] * output.shape[1]
        total = torch.where(failed, FAILED * frames, difference) * weight
        posteriors = (right_paths.posteriors * weight).masked_fill(failed, 0.0).to(output.dtype)
        if all_paths.posteriors is not None:
            derivative = all_paths.posteriors
            derivative.view(-1).index_add_(0, right_paths.positions, posteriors)
            _penalize(derivative, output, out_of_range)
            if deriv_weights is not None:
                derivative.mul_(deriv_weights[..., None])
            if derivative.is_cuda or failed:
                derivative.masked_fill_(failed, 0.0)
            ctx.save_for_backward(derivative)
        ctx.mark_non_differentiable(right_paths.positions, posteriors, failed)
        return total.to(output.dtype), right_paths.positions, posteriors, failed

    @staticmethod
    def backward(
        ctx: Any, of_total: Tensor, *others: Tensor
    ) -> tuple[Tensor, None, None, None, None]:
        (derivative,) = ctx.saved_tensors
        return derivative * of_total, None, None, None, None


def _penalize(derivative: Tensor, output: Tensor, scale: float) -> None:
    """Subtracts by how much outputs are out of range."""
    if scale and (output.is_cuda or output.abs().max() > LIMIT):
        derivative.sub_(output - output.clamp(-LIMIT, LIMIT), alpha=scale)
