"""Forward-backward over the denominator graph of LF-MMI, with the leaky HMM.

p(x) = sum over paths of the product of transition probabilities and exp(x[t, pdf_t])

All paths of a graph of thousands of states count, in every frame; so the work is that of sparse
matrices times (states, sequences). Transitions that enter the same state with the same pdf are
gathered into a *row*: probabilities of transitions are summed up by rows, then rows are multiplied
by exp(output) and summed up by states. Real graphs have few rows more than states, and the
posteriors of rows are all that the derivative needs, so pdfs and exponentials are looked up once a
row rather than once a transition.

As in Kaldi (Povey et al. 2016, "Purely sequence-trained neural networks for ASR based on
lattice-free MMI") probabilities are not logarithms; they are divided by their sum in each frame,
and the *leaky HMM* lets a small share of it go from every state to every state in proportion to
the initial probabilities, so that no sequence is impossible.

The torch code below is the reference and the CPU path.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from nnet.kernels.chain.transitions import LIMIT, Denominator, Transitions, is_right
from nnet.kernels.implementation import Implementation, triton_file, uses_triton


def denominator(
    output: Tensor,
    transitions: Transitions,
    leaky_hmm_coefficient: float,
    *,
    scale: float | None = None,
    implementation: Implementation = "reference",
) -> Denominator:
    """The log-probability of each sequence, and the pdfs' posteriors: its derivative by `output`.

    Autograd takes no part; `nnet.kernels.chain.lfmmi.lfmmi` hands it the posteriors.

    Args:
        output: pseudo log-likelihoods (time, sequences, pdfs); beyond +-30 they count as +-30, but
            the derivative is as if they did not.
        transitions: on the same device and of the same type.
        leaky_hmm_coefficient: above 0 and below 1.
        scale: by which the posteriors are multiplied; without it there are none.
        implementation: which code runs.
    """
    if uses_triton(implementation, output):
        denominator_on_device = triton_file("chain.gpu").denominator_on_device
        return denominator_on_device(output, transitions, leaky_hmm_coefficient, scale)
    return _Recursion(output, transitions, leaky_hmm_coefficient).run(scale)


class _Recursion:
    """The reference. Matrices are (states, rows or pdfs; sequences)."""

    def __init__(self, output: Tensor, transitions: Transitions, leak: float) -> None:
        self._transitions = t = transitions
        self._frames, self._sequences, _ = output.shape
        self._like = output
        self._leak = leak * t.initial
        ones, every_row = t.probs.new_ones(t.num_rows), torch.arange(t.num_rows).to(t.sources)
        self._into_rows = _sparse(t.row_begins, t.sources, t.probs, t.num_states)
        self._into_states = _sparse(t.state_begins, every_row, ones, t.num_rows)
        self._out_of_states = _sparse(t.out_begins, t.out_rows, t.out_probs, t.num_rows)
        self._into_pdfs = _sparse(t.pdf_begins, t.pdf_rows, ones, t.num_rows)
        # (time, pdfs, sequences)
        self._likelihoods = output.clamp(-LIMIT, LIMIT).exp_().transpose(1, 2).contiguous()
        self._rows, self._row_likelihoods = self._empty(2, t.num_rows)

    def _empty(self, *shape: int) -> Tensor:
        return self._like.new_empty((*shape, self._sequences))

    def run(self, scale: float | None) -> Denominator:
        t, frames = self._transitions, self._frames
        kept = frames + 1 if scale is not None else 2
        alphas, sums = self._empty(kept, t.num_states), self._empty(frames + 1)
        alphas[0] = t.initial[:, None]
        for frame in range(frames):
            alpha, following = alphas[frame % kept], alphas[(frame + 1) % kept]
            self._add_leak(alpha, sums[frame])
            self._likelihoods[frame].div_(sums[frame])
            torch.addmm(self._rows, self._into_rows, alpha, beta=0, out=self._rows)
            self._rows.mul_(self._of_rows(self._likelihoods[frame]))
            torch.addmm(following, self._into_states, self._rows, beta=0, out=following)
        self._add_leak(alphas[frames % kept], sums[frames])
        total = alphas[frames % kept].sum(0)
        log_probs = sums[:frames].log().sum(0) + total.log()
        finite = log_probs.isfinite().all()
        if scale is None:
            return Denominator(log_probs, None, finite)
        posteriors, ok = self._backward(alphas, total, scale)
        return Denominator(log_probs, posteriors, ok & finite)

    def _add_leak(self, alpha: Tensor, total: Tensor) -> None:
        """Adds what leaks into each state; `total` becomes the sum before."""
        torch.sum(alpha, 0, out=total)
        alpha.addr_(self._leak, total)

    def _of_rows(self, of_pdfs: Tensor) -> Tensor:
        pdfs = self._transitions.row_pdfs
        return torch.index_select(of_pdfs, 0, pdfs, out=self._row_likelihoods)

    def _backward(self, alphas: Tensor, total: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Rows are computed again, which takes less than keeping those of all frames."""
        t, rows = self._transitions, self._rows
        posteriors = torch.empty_like(self._like)
        beta = (1 / total).repeat(t.num_states, 1)
        onward, of_pdfs = self._empty(t.num_rows), self._empty(t.num_pdfs)
        for frame in reversed(range(self._frames)):
            beta += self._leak @ beta
            torch.index_select(beta, 0, t.row_states, out=onward)
            onward.mul_(self._of_rows(self._likelihoods[frame]))
            torch.addmm(rows, self._into_rows, alphas[frame], beta=0, out=rows)
            rows.mul_(onward)
            torch.addmm(of_pdfs, self._into_pdfs, rows, beta=0, alpha=scale, out=of_pdfs)
            posteriors[frame] = of_pdfs.t()
            torch.addmm(beta, self._out_of_states, onward, beta=0, out=beta)
        return posteriors, is_right(t, self._leak, beta, of_pdfs, scale)


def _sparse(begins: Tensor, columns: Tensor, values: Tensor, width: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        shape = (len(begins) - 1, width)
        return torch.sparse_csr_tensor(begins, columns, values, shape, check_invariants=False)
