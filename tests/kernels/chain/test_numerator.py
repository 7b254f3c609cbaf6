"""The numerator's recursions: against sums over all paths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnet.data.chain.supervision_graphs import numerator_graphs
from nnet.kernels.chain.numerator import numerator
from nnet.modelfile.chain_examples import Supervision
from tests.supervisions import log_prob_of_paths, random_supervision


@settings(deadline=None, max_examples=20)
@given(
    sequences=st.integers(1, 4),
    frames=st.integers(2, 5),
    pdfs=st.integers(1, 4),
    end_to_end=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_value_and_posteriors_are_those_of_all_paths(
    sequences: int, frames: int, pdfs: int, end_to_end: bool, seed: int
) -> None:
    supervision = random_supervision(sequences, frames, pdfs, seed, end_to_end=end_to_end)
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(frames, sequences, pdfs, generator=generator, dtype=torch.float64)
    output.requires_grad_()
    found = numerator(output.detach(), numerator_graphs(supervision))
    in_order = output.transpose(0, 1).reshape(-1, pdfs)
    expected = log_prob_of_paths(in_order, supervision.fsts)
    torch.testing.assert_close(found.log_probs.sum(), expected.detach())
    (slopes,) = torch.autograd.grad(expected, output)
    posteriors = torch.zeros(output.numel(), dtype=torch.float64)
    posteriors.index_add_(0, found.positions, found.posteriors)
    torch.testing.assert_close(posteriors.view_as(output), slopes)


def test_sequences_that_were_merged_go_forward_together() -> None:
    supervision = random_supervision(3, 4, 5, seed=0, end_to_end=False)
    graphs = numerator_graphs(supervision)
    assert graphs.frames == 4
    assert graphs.num_graphs == 3


def test_sequences_that_cannot_be_told_apart_are_one_graph() -> None:
    """Two states between sequences whose arcs differ: as nnet3 computes it, over all frames."""
    merged = random_supervision(2, 3, 5, seed=1, end_to_end=False)
    (fst,) = merged.fsts
    places = np.arange(fst.num_arcs, dtype=np.float32)
    different = replace(fst, weights=fst.weights + places**2 / 100)
    supervision = Supervision(1.0, 2, 3, 5, (different,))
    graphs = numerator_graphs(supervision)
    assert (graphs.frames, graphs.num_graphs) == (6, 1)
    output = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    in_order = output.transpose(0, 1).reshape(-1, 5)
    expected = log_prob_of_paths(in_order, (different,))
    assert numerator(output, graphs).log_probs.item() == pytest.approx(expected.item())
