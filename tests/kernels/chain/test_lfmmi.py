"""The LF-MMI objective: its derivative by finite differences, in float64 on random graphs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnet.data.chain.supervision_graphs import numerator_graphs
from nnet.kernels.chain.lfmmi import LfMmi, lfmmi
from nnet.kernels.chain.transitions import LIMIT
from tests.kernels.chain.test_denominator import LEAKS, random_transitions
from tests.kernels.triton_cases import DEVICE
from tests.supervisions import random_supervision


def random_case(sequences: int, frames: int, pdfs: int, seed: int, *, end_to_end: bool):
    supervision = random_supervision(sequences, frames, pdfs, seed, end_to_end=end_to_end)
    graphs = numerator_graphs(supervision).each(lambda tensor: tensor.to(DEVICE))
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(frames, sequences, pdfs, generator=generator, dtype=torch.float64)
    return output.to(DEVICE), graphs


@settings(deadline=None, max_examples=20)
@given(
    states=st.integers(1, 5),
    sequences=st.integers(1, 3),
    frames=st.integers(2, 4),
    pdfs=st.integers(1, 4),
    leak=LEAKS,
    weight=st.sampled_from([1.0, 0.3]),
    end_to_end=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_the_derivative(
    states: int,
    sequences: int,
    frames: int,
    pdfs: int,
    leak: float,
    weight: float,
    end_to_end: bool,
    seed: int,
) -> None:
    output, graphs = random_case(sequences, frames, pdfs, seed, end_to_end=end_to_end)
    transitions = random_transitions(states, 3 * states, pdfs, seed)

    def objective(given: torch.Tensor) -> torch.Tensor:
        return lfmmi(given, graphs, transitions, leaky_hmm_coefficient=leak, weight=weight).total

    assert torch.autograd.gradcheck(objective, output.requires_grad_())


def case(**options: object) -> tuple[torch.Tensor, LfMmi]:
    output, graphs = random_case(2, 3, 4, seed=1, end_to_end=False)
    output[1, 0, 2] = LIMIT + 5
    output.requires_grad_()
    transitions = random_transitions(4, 20, 4, seed=1)
    return output, lfmmi(output, graphs, transitions, leaky_hmm_coefficient=0.1, **options)


def test_what_is_out_of_range_is_pulled_back() -> None:
    slopes = []
    for scale in (0.0, 0.25):
        output, result = case(out_of_range_regularize=scale)
        slopes.append(torch.autograd.grad(result.total, output)[0])
    expected = torch.zeros_like(slopes[0])
    expected[1, 0, 2] = -0.25 * 5
    torch.testing.assert_close(slopes[1] - slopes[0], expected)


def test_derivative_weights_multiply_the_derivative_alone() -> None:
    output, plain = case()
    (slopes,) = torch.autograd.grad(plain.total, output)
    weights = torch.tensor([[1.0, 0.0], [0.5, 1.0], [0.0, 2.0]], dtype=torch.float64)
    output, weighted = case(deriv_weights=weights.to(DEVICE))
    (found,) = torch.autograd.grad(weighted.total, output)
    torch.testing.assert_close(weighted.total, plain.total)
    torch.testing.assert_close(found, slopes * weights.to(DEVICE)[..., None])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_bad_numbers_count_as_minus_ten_a_frame_and_have_no_derivative(bad: float) -> None:
    output, graphs = random_case(2, 3, 1, seed=1, end_to_end=False)
    output[1, 0, 0] = bad
    output.requires_grad_()
    transitions = random_transitions(4, 20, 1, seed=1)
    result = lfmmi(output, graphs, transitions, weight=0.5, leaky_hmm_coefficient=0.1)
    assert result.failed
    assert result.total.item() == -10 * 6 * 0.5
    assert not result.posteriors.any()
    assert not torch.autograd.grad(result.total, output)[0].any()


@pytest.mark.parametrize("end_to_end", [False, True])
def test_our_kernels_give_the_same(end_to_end: bool) -> None:
    output, graphs = random_case(2, 3, 4, seed=2, end_to_end=end_to_end)
    transitions = random_transitions(4, 20, 4, seed=2)
    found = []
    for dtype, implementation in ((torch.float64, "reference"), (torch.float32, "triton")):
        given = output.to(dtype).requires_grad_()
        placed = transitions.to(given.device, dtype)
        result = lfmmi(given, graphs, placed, implementation=implementation)
        (slopes,) = torch.autograd.grad(result.total, given)
        found.append((result.total.double(), slopes.double()))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)
