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
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from nnet.kernels.implementation import Implementation, uses_triton

LIMIT = 30.0
"""Outputs are clamped to -LIMIT .. LIMIT before exp."""

MOST_ERROR = 2.0
"""By which the sum of posteriors over the sequences may be wrong before a minibatch is given up."""


@dataclass(frozen=True, eq=False)
class Transitions:
    """The transitions of a denominator graph, sorted for forward and backward recursions.

    Attributes:
        initial: initial probabilities (states,), by which the leaky HMM returns too.
        probs: probabilities (transitions,), sorted by row.
        sources: states that they leave, int32 (transitions,).
        row_begins: where each row's transitions begin, int32 (rows + 1,).
        row_states: the state that each row enters, int64 (rows,), in order.
        row_pdfs: its pdf, int64 (rows,).
        state_begins: where each state's rows begin, int32 (states + 1,).
        out_probs: the probabilities again, sorted by the states that they leave.
        out_rows: the rows of these, int32 (transitions,).
        out_begins: where each state's begin, int32 (states + 1,).
        pdf_rows: the rows sorted by pdf, int32 (rows,).
        pdf_begins: where each pdf's begin, int32 (pdfs + 1,).
    """

    initial: Tensor
    probs: Tensor
    sources: Tensor
    row_begins: Tensor
    row_states: Tensor
    row_pdfs: Tensor
    state_begins: Tensor
    out_probs: Tensor
    out_rows: Tensor
    out_begins: Tensor
    pdf_rows: Tensor
    pdf_begins: Tensor

    @staticmethod
    def of(
        sources: Tensor,
        targets: Tensor,
        pdfs: Tensor,
        probs: Tensor,
        initial: Tensor,
        num_pdfs: int,
    ) -> Transitions:
        """Sorts transitions: from `sources` to `targets` with `pdfs`, int64 (transitions,) each."""
        states = len(initial)
        keys = targets * num_pdfs + pdfs
        order = torch.argsort(keys * states + sources)
        row_keys, rows = torch.unique_consecutive(keys[order], return_inverse=True)
        row_states, row_pdfs = row_keys // num_pdfs, row_keys % num_pdfs
        sources = sources[order]
        out_order = torch.argsort(sources * len(row_keys) + rows)
        return Transitions(
            initial=initial,
            probs=probs[order],
            sources=sources.int(),
            row_begins=_begins(rows, len(row_keys)),
            row_states=row_states,
            row_pdfs=row_pdfs,
            state_begins=_begins(row_states, states),
            out_probs=probs[order][out_order],
            out_rows=rows[out_order].int(),
            out_begins=_begins(sources, states),
            pdf_rows=torch.argsort(row_pdfs, stable=True).int(),
            pdf_begins=_begins(row_pdfs, num_pdfs),
        )

    @property
    def num_states(self) -> int:
        return len(self.initial)

    @property
    def num_rows(self) -> int:
        return len(self.row_states)

    @property
    def num_pdfs(self) -> int:
        return len(self.pdf_begins) - 1

    def to(self, device: torch.device, dtype: torch.dtype) -> Transitions:
        """The same on another device, with probabilities of another type."""
        tensors = {field.name: getattr(self, field.name).to(device) for field in fields(self)}
        for name in ("initial", "probs", "out_probs"):
            tensors[name] = tensors[name].to(dtype)
        return Transitions(**tensors)


def _begins(sorted_or_not: Tensor, count: int) -> Tensor:
    """Where each number below `count` begins among the sorted ones, int32 (count + 1,)."""
    counts = torch.bincount(sorted_or_not, minlength=count)
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()


class Denominator(NamedTuple):
    """What the recursions give.

    Attributes:
        log_probs: of each sequence (sequences,).
        posteriors: of the pdfs, (time, sequences, pdfs), times the scale; None if not wanted.
        ok: a scalar bool: nothing is infinite, and posteriors sum up to 1.
    """

    log_probs: Tensor
    posteriors: Tensor | None
    ok: Tensor


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
        from nnet.kernels.chain.gpu import denominator_on_device

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


def is_right(
    transitions: Transitions, leak: Tensor, beta: Tensor, of_pdfs: Tensor, scale: float
) -> Tensor:
    """Whether posteriors of states and of pdfs in the first frame sum up to about 1.

    Args:
        transitions: give the initial probabilities.
        leak: what of all probability leaks into each state (states,).
        beta: of the first frame (states, sequences), without what leaks.
        of_pdfs: posteriors times scale (pdfs, sequences).
        scale: see there.
    """
    sequences = beta.shape[1]
    alpha = transitions.initial + leak * transitions.initial.sum()
    state_error = (alpha @ beta).sum() - sequences
    pdf_error = of_pdfs.sum() - scale * sequences
    return (state_error.abs() <= MOST_ERROR) & (pdf_error.abs() <= MOST_ERROR * abs(scale))


def _sparse(begins: Tensor, columns: Tensor, values: Tensor, width: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        shape = (len(begins) - 1, width)
        return torch.sparse_csr_tensor(begins, columns, values, shape, check_invariants=False)
