"""The denominator's recursions: against sums over all paths, by finite differences, and our kernels
against the reference."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nnet.kernels.chain.denominator import denominator
from nnet.kernels.chain.transitions import LIMIT, Transitions
from tests.kernels.triton_cases import DEVICE, assert_close

LEAKS = st.sampled_from([1e-5, 0.1, 0.7])


def random_transitions(
    states: int, arcs: int, pdfs: int, seed: int, dtype: torch.dtype = torch.float64
) -> Transitions:
    """Any graph: some states cannot be reached, some cannot be left, some arcs come twice."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(below: int) -> Tensor:
        return torch.randint(0, below, (arcs,), generator=generator)

    probs = torch.rand(arcs, generator=generator, dtype=torch.float64)
    initial = torch.rand(states, generator=generator, dtype=torch.float64)
    transitions = Transitions.of(
        numbers(states), numbers(states), numbers(pdfs), probs, initial / initial.sum(), pdfs
    )
    return transitions.to(torch.device(DEVICE), dtype)


def random_output(frames: int, sequences: int, pdfs: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(frames, sequences, pdfs, generator=generator, dtype=torch.float64)
    return (output * 2).to(DEVICE)


def dense(transitions: Transitions) -> Tensor:
    """Transition probabilities (pdfs, states, states)."""
    t = transitions
    rows = torch.repeat_interleave(
        torch.arange(t.num_rows, device=t.probs.device), t.row_begins.diff()
    )
    shape = (t.num_pdfs, t.num_states, t.num_states)
    places = (t.row_pdfs[rows], t.sources.long(), t.row_states[rows])
    return t.probs.new_zeros(shape).index_put(places, t.probs, accumulate=True)


def over_all_paths(output: Tensor, transitions: Transitions, leak: float) -> Tensor:
    """Log-probabilities (sequences,), with the leak as one more step after each frame."""
    initial = transitions.initial
    leaking = torch.eye(len(initial)).to(initial) + leak * initial.expand(len(initial), -1)
    steps = torch.einsum("tsp,pij->tsij", output.exp(), dense(transitions)) @ leaking
    found = []
    for sequence in range(output.shape[1]):
        forward = initial @ leaking
        for frame in range(output.shape[0]):
            forward = forward @ steps[frame, sequence]
        found.append(forward.sum().log())
    return torch.stack(found)


@settings(deadline=None, max_examples=25)
@given(
    states=st.integers(1, 6),
    arcs=st.integers(1, 20),
    pdfs=st.integers(1, 5),
    frames=st.integers(1, 5),
    leak=LEAKS,
    seed=st.integers(0, 10_000),
)
def test_value_and_posteriors_are_those_of_all_paths(
    states: int, arcs: int, pdfs: int, frames: int, leak: float, seed: int
) -> None:
    transitions = random_transitions(states, arcs, pdfs, seed)
    output = random_output(frames, 3, pdfs, seed).requires_grad_()
    found = denominator(output.detach(), transitions, leak, scale=1.0)
    expected = over_all_paths(output, transitions, leak)
    torch.testing.assert_close(found.log_probs, expected.detach())
    (slopes,) = torch.autograd.grad(expected.sum(), output)
    torch.testing.assert_close(found.posteriors, slopes)
    assert found.ok


def test_a_small_graph_by_hand() -> None:
    """Two states, both followed by each other alone: one path from each."""
    half = torch.tensor([0.5, 0.5], dtype=torch.float64)
    transitions = Transitions.of(
        torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([2, 0]), half, half, 3
    )
    output = random_output(2, 1, 3, seed=0).cpu()
    leak = 1e-300  # nothing leaks
    found = denominator(output, transitions, leak, scale=1.0)
    paths = [output[0, 0, a] + output[1, 0, b] for a, b in ((2, 0), (0, 2))]
    expected = torch.stack(paths).logsumexp(0) + torch.log(torch.tensor(0.5**3))
    torch.testing.assert_close(found.log_probs, expected[None])


def test_transitions_are_sorted_into_rows_of_the_same_state_and_pdf() -> None:
    transitions = random_transitions(5, 60, 3, seed=1)
    rows = list(zip(transitions.row_states.tolist(), transitions.row_pdfs.tolist(), strict=True))
    assert rows == sorted(set(rows))
    assert transitions.row_begins[-1] == transitions.out_begins[-1] == 60
    for begin, end in itertools.pairwise(transitions.out_begins.tolist()):
        following = transitions.out_rows[begin:end].tolist()
        assert following == sorted(following)


def test_outputs_out_of_range_count_as_the_limit() -> None:
    transitions = random_transitions(4, 12, 3, seed=3)
    output = random_output(3, 2, 3, seed=3)
    output[1, 0, 2], output[2, 1, 0] = 80.0, -90.0
    found = denominator(output, transitions, 0.1, scale=1.0)
    limited = denominator(output.clamp(-LIMIT, LIMIT), transitions, 0.1, scale=1.0)
    torch.testing.assert_close(found.log_probs, limited.log_probs)
    torch.testing.assert_close(found.posteriors, limited.posteriors)


def test_what_is_not_finite_is_not_ok() -> None:
    transitions = random_transitions(4, 12, 3, seed=3)
    output = random_output(3, 2, 3, seed=3)
    output[1, 1, 1] = float("nan")
    assert not denominator(output, transitions, 0.1, scale=1.0).ok
    assert not denominator(output, transitions, 0.1).ok


@pytest.mark.parametrize(
    ("states", "arcs", "pdfs", "frames", "sequences"),
    [(7, 23, 5, 2, 5), (1, 3, 2, 2, 1), (5, 40, 7, 1, 3), (11, 7, 3, 1, 9)],
)
def test_kernels_give_what_the_reference_gives(
    states: int, arcs: int, pdfs: int, frames: int, sequences: int
) -> None:
    transitions = random_transitions(states, arcs, pdfs, seed=arcs)
    output = random_output(frames, sequences, pdfs, seed=arcs)
    given = output.float().clone()
    small = transitions.to(output.device, torch.float32)
    for scale in (-0.5, None):
        expected = denominator(output, transitions, 0.1, scale=scale)
        found = denominator(given, small, 0.1, scale=scale, implementation="triton")
        assert_close(found.log_probs, expected.log_probs)
        assert found.ok
        if scale is not None:
            assert_close(found.posteriors, expected.posteriors)
    assert (given == output.float()).all()


def test_operators() -> None:
    from nnet.kernels.chain import gpu as operators

    t = random_transitions(2, 4, 2, seed=0, dtype=torch.float32)
    likelihoods = torch.rand(2, 2, 3, device=DEVICE)
    leak, row_leak = 0.1 * t.initial, torch.rand(t.num_rows, device=DEVICE)
    lists = (t.probs, t.sources, t.row_begins, t.row_pdfs, t.state_begins)
    torch.library.opcheck(operators.forward, (likelihoods, t.initial, leak, row_leak, *lists, True))
    rows = torch.rand(2, t.num_rows, 3, device=DEVICE)
    sums, beta = torch.rand(3, 3, device=DEVICE), torch.rand(3, device=DEVICE)
    lists = (t.out_probs, t.out_rows, t.out_begins, t.row_states, t.row_pdfs)
    torch.library.opcheck(
        operators.backward,
        (rows, likelihoods, sums, beta, leak, *lists, t.pdf_rows, t.pdf_begins),
    )
