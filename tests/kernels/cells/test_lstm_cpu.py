"""The LSTM cell in C++ against plain torch in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nnet.kernels.cells.limit_cpu import NativeLimit
from nnet.kernels.cells.lstm_cpu import LIBRARY, NativeLstm, NativeLstmDerivative
from nnet.kernels.native_rows import runs_natively, step_ranges

pytestmark = pytest.mark.usefixtures("instruction_set")


def cell(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """[c, y], and the five activations, by definition."""
    cells = weights.shape[1]
    i, f, c, o, previous = x[..., : 5 * cells].split(cells, dim=-1)
    masks = x[..., 5 * cells :] if x.shape[-1] > 5 * cells else torch.ones(3)
    drop_i, drop_f, drop_o = masks.split(1, dim=-1)
    i, f = torch.sigmoid(i + weights[0] * previous), torch.sigmoid(f + weights[1] * previous)
    g = torch.tanh(c)
    new = drop_f * f * previous + drop_i * i * g
    o, m = torch.sigmoid(o + weights[2] * new), torch.tanh(new)
    return torch.cat((new, drop_o * o * m), dim=-1), torch.stack((i, f, g, o, m), dim=-2)


def inputs(cells: int, masked: bool, size: float = 2.0) -> tuple[Tensor, Tensor]:
    """Rows of 5 times and 3 sequences that lie apart in memory, and peepholes."""
    torch.manual_seed(cells)
    width = 5 * cells + (3 if masked else 0)
    x = torch.full((5, 4, width + 7), math.nan)[:, :3, 2 : 2 + width]
    x.copy_(size * torch.randn(5, 3, width))
    if masked:
        x[..., -3:] = torch.tensor([0.0, 1.25, 0.5])
    return x, torch.randn(3, cells)


def blocks(x: Tensor, cells: int) -> list[Tensor]:
    """The inputs of the gates, the previous cells, and the masks if there are any."""
    masks = x.shape[-1] - 5 * cells
    return list(x.split([4 * cells, cells, masks] if masks else [4 * cells, cells], dim=-1))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cells", [1, 15, 16, 63, 130])
def test_values_and_derivatives(cells: int, masked: bool, in_place: bool) -> None:
    """In place, what is kept, and then the gradient for the gates, takes the place of the gates."""
    x, weights = inputs(cells, masked)
    exact_x = x.double().requires_grad_()
    exact_w = weights.double().requires_grad_()
    out = torch.full((5, 3, 2 * cells), math.nan)
    assert runs_natively(LIBRARY, x, weights, out)
    given = blocks(x, cells)
    kept = given[0] if in_place else torch.full((5, 3, 4 * cells), math.nan)
    forward = NativeLstm(given, weights, out, kept)
    for first in range(5):
        forward.forward(first, first + 1)
    expected, activations = cell(exact_x, exact_w)
    torch.testing.assert_close(out.double(), expected, rtol=2e-6, atol=2e-6)
    of_gates = activations[..., :4, :].flatten(-2)
    torch.testing.assert_close(kept.double(), of_gates, rtol=2e-6, atol=2e-6)
    before = kept.clone()

    gradient = torch.randn(5, 3, 2 * cells)
    repair = torch.rand(5, cells)
    targets = blocks(torch.full((5, 3, x.shape[2] + 1), math.nan)[..., 1:], cells)
    if in_place:
        targets[0] = kept
    back = NativeLstmDerivative(forward, gradient, targets, None)
    back.backward(2, 5)
    back.backward(0, 2)
    found = torch.autograd.grad(expected, (exact_x, exact_w), gradient.double())
    found[0][..., 5 * cells :] = 0  # nothing is derived by masks
    torch.testing.assert_close(torch.cat(targets, dim=-1).double(), found[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(back.peepholes, found[1], rtol=1e-5, atol=1e-5)

    kept.copy_(before)
    back = NativeLstmDerivative(forward, torch.zeros_like(gradient), targets, repair)
    back.backward(0, 5)
    i, f, g, o, m = activations.detach().unbind(-2)
    rows = activations.detach().flatten(0, 1)
    torch.testing.assert_close(back.values, rows.sum(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(back.squares, rows.square().sum(0), rtol=1e-5, atol=1e-5)
    target = targets[0]
    push = [(2 * a - 1) * r for a, r in zip((i, f, o), repair[[0, 1, 3]].double(), strict=True)]
    torch.testing.assert_close(
        target[..., 3 * cells : 4 * cells].double(), push[2], rtol=1e-5, atol=1e-5
    )
    of_cell = push[2] * weights[2] + repair[4] * m
    of_g = of_cell * i * (1 - g * g) * (x[..., -3:-2] if masked else 1) + repair[2] * g
    torch.testing.assert_close(
        target[..., 2 * cells : 3 * cells].double(), of_g.double(), rtol=1e-5, atol=1e-5
    )


def test_saturated_units_are_neither_nan_nor_denormal() -> None:
    x, weights = inputs(64, masked=False, size=150.0)
    out, kept = torch.empty(5, 3, 128), torch.empty(5, 3, 256)
    NativeLstm(blocks(x, 64), weights, out, kept).forward(0, 5)
    expected, _ = cell(x.double(), weights.double())
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-6)
    tiny = torch.finfo(torch.float32).tiny
    for values in (out, kept):
        assert not ((values != 0) & (values.abs() < tiny)).any()


def test_threads_change_nothing_but_the_order_of_sums() -> None:
    x, weights, gradient = torch.randn(6, 32, 1000), torch.randn(3, 200), torch.randn(6, 32, 400)
    results = []
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        out, target, kept = (torch.empty(6, 32, dim) for dim in (400, 1000, 800))
        forward = NativeLstm(blocks(x, 200), weights, out, kept)
        forward.forward(0, 6)
        back = NativeLstmDerivative(forward, gradient, blocks(target, 200), None)
        back.backward(0, 6)
        results.append((out, target, back.peepholes))
    torch.set_num_threads(before)
    (out, target, sums), (other_out, other_target, other_sums) = results
    assert torch.equal(out, other_out)
    assert torch.equal(target, other_target)
    torch.testing.assert_close(sums, other_sums, rtol=1e-4, atol=1e-4)


def test_nan_stays_nan() -> None:
    x, weights = inputs(16, masked=False)
    x[1, 2, 3] = math.nan
    out = torch.zeros(5, 3, 32)
    NativeLstm(blocks(x, 16), weights, out, None).forward(0, 5)
    assert out[1, 2, 3].isnan()
    assert out.isnan().sum() == 2


@pytest.mark.parametrize("dim", [33, 900])
@pytest.mark.parametrize("adds", [(False,), (True,), (True, False)])
def test_rows_are_limited(adds: tuple[bool, ...], dim: int) -> None:
    torch.manual_seed(1)
    gradient, target = torch.randn(6, 4, dim), torch.randn(6, 4, dim + 7)[..., 3 : dim + 3]
    before, far, near = target.clone(), 0.55 * math.sqrt(dim), 0.5 * math.sqrt(dim)
    targets = target.split([20, dim - 20] if len(adds) == 2 else [dim], dim=-1)
    boundaries = torch.rand(6, 4) < 0.4
    native_limit = NativeLimit(
        gradient, targets, boundaries, scale=0.5, clipping=near, zeroing=far, adds=adds
    )
    native_limit.limit(0, 6)
    norms = 0.5 * gradient.norm(dim=-1, keepdim=True)
    factor = 0.5 * (near / norms).clamp_max(1)
    zeroed = boundaries.unsqueeze(-1) & (norms > far)
    expected = torch.where(zeroed, 0.0, gradient * factor)
    for part, found, start, added in zip(
        expected.split([x.shape[2] for x in targets], -1),
        targets,
        before.split([x.shape[2] for x in targets], -1),
        adds,
        strict=True,
    ):
        torch.testing.assert_close(found, part + (start if added else 0))
    assert native_limit.counts == (int((norms > near).sum()), int(zeroed.sum()))


def test_ranges_of_steps_follow_their_order() -> None:
    rows = torch.empty(9, 2, 5)[2:8]
    assert step_ranges(rows, rows.split([2, 1, 3])) == [(0, 2), (2, 3), (3, 6)]
    assert step_ranges(rows, list(rows.split([2, 1, 3]))[::-1]) == [(3, 6), (2, 3), (0, 2)]
