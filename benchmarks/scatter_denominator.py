"""The denominator of LF-MMI as one would write it first: gather, multiply and scatter all arcs."""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.chain.transitions import Transitions


class ScatterDenominator:
    """Forward-backward with the leaky HMM, one index_add over all transitions a frame.

    Args:
        transitions: the graph.
        leak: the leaky HMM's coefficient.
    """

    def __init__(self, transitions: Transitions, leak: float) -> None:
        t = transitions
        counts = t.row_begins.diff().long()
        self.initial, self.probs = t.initial, t.probs[:, None]
        self.leak = leak * t.initial[:, None]
        self.sources = t.sources.long()
        self.targets = torch.repeat_interleave(t.row_states, counts)
        self.pdfs = torch.repeat_interleave(t.row_pdfs, counts)

    def __call__(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (sequences,) and posteriors (time, sequences, pdfs) of an output
        (time, sequences, pdfs)."""
        likelihoods = output.clamp(-30, 30).exp().transpose(1, 2).contiguous()
        alpha = self.initial[:, None].repeat(1, output.shape[1])
        alphas, sums = [], []
        for frame in likelihoods:
            sums.append(alpha.sum(0))
            alphas.append(alpha + self.leak * sums[-1])
            moved = alphas[-1][self.sources] * self.probs * frame[self.pdfs] / sums[-1]
            alpha = torch.zeros_like(alpha).index_add_(0, self.targets, moved)
        total = (alpha + self.leak * alpha.sum(0)).sum(0)
        beta = torch.ones_like(alpha) / total
        posteriors = torch.zeros_like(likelihoods)
        for number in reversed(range(len(likelihoods))):
            beta = beta + (self.leak * beta).sum(0)
            moved = beta[self.targets] * self.probs * likelihoods[number][self.pdfs]
            moved = moved / sums[number]
            occupied = moved * alphas[number][self.sources]
            posteriors[number].index_add_(0, self.pdfs, occupied)
            beta = torch.zeros_like(beta).index_add_(0, self.sources, moved)
        log_probs = torch.stack(sums).log().sum(0) + total.log()
        return log_probs, posteriors.transpose(1, 2)
