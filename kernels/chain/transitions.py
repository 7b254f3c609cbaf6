"""The transitions of a denominator graph, and what the recursions over them give."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

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
        """The transitions on another device, with probabilities of another type."""
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
