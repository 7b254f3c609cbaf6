"""The loop of an LSTM in one launch gives what it gives step by step."""

import dataclasses

import pytest
import torch

from nnet.kernels.lstm_loop import (
    LstmGradients,
    LstmLoop,
    lstm_loop_backward,
    lstm_loop_forward,
)
from tests.kernels.triton_cases import DEVICE, assert_close, nan_around


def random(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return scale * torch.randn(*shape, generator=generator)


def make_loop(rows, width, cells, recurrent, projected, reverse, scale=0.9):
    padding = torch.zeros(width, cells + recurrent)
    made = torch.full((rows, cells + recurrent), torch.nan)
    gates = torch.cat((random(rows, 4 * cells), torch.full((rows, cells), torch.nan)), dim=1)
    loop = LstmLoop(
        x=gates,
        out=torch.full((rows, 2 * cells), torch.nan),
        y=torch.full((rows, projected), torch.nan) if projected else None,
        states=torch.cat((made, padding) if reverse else (padding, made)),
        first=0 if reverse else width,
        width=width,
        reverse=reverse,
        w_r=random(4 * cells, recurrent, scale=0.5),
        peepholes=random(3, cells, scale=0.5),
        w_p=random(projected, cells, scale=0.5) if projected else None,
        b_p=random(projected) if projected else None,
        scale=scale,
    )
    return moved(loop, torch.float32)


def moved(values, dtype):
    """The same with other tensors: nothing is shared, and there is NaN around float32 rows."""
    changes = {}
    for field in dataclasses.fields(values):
        tensor = getattr(values, field.name)
        if isinstance(tensor, torch.Tensor):
            copy = tensor.to(DEVICE, dtype if tensor.is_floating_point() else None, copy=True)
            poisoned = copy.is_floating_point() and dtype == torch.float32
            changes[field.name] = nan_around(copy) if poisoned else copy
    return dataclasses.replace(values, **changes)


def make_gradients(loop, **options):
    rows, cells = loop.rows, loop.cells
    projected = 0 if loop.y is None else loop.y.shape[1]
    gradients = LstmGradients(
        out=random(rows, 2 * cells, seed=1),
        y=random(rows, projected, seed=1) if projected else None,
        x=torch.full((rows, 5 * cells), torch.nan),
        norms=torch.full((rows,), torch.nan),
        **options,
    )
    return moved(gradients, torch.float32)


CASES = {
    "projected": (23, 5, 7, 3, 5, False),
    "backward in time": (23, 5, 7, 3, 5, True),
    "without projection": (12, 4, 19, 19, 0, False),
    "several blocks": (40, 18, 35, 18, 33, False),
    "one step": (3, 5, 7, 3, 3, True),
}


@pytest.mark.parametrize("case", CASES)
def test_forward(case):
    loop = make_loop(*CASES[case])
    expected = moved(loop, torch.float64)
    lstm_loop_forward(expected)
    lstm_loop_forward(loop, implementation="triton")
    for name in ("x", "out", "y", "states"):
        if getattr(loop, name) is not None:
            assert_close(getattr(loop, name), getattr(expected, name))


@pytest.mark.parametrize("truncated", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_derivative(case, truncated):
    loop = make_loop(*CASES[case])
    options = {}
    if truncated:
        boundaries = torch.arange(loop.rows) % 4 == 0
        repair = random(5, loop.cells, scale=0.1)
        options = {"threshold": 2.0, "zeroing": 3.0, "boundaries": boundaries, "repair": repair}
    gradients = make_gradients(loop, **options)
    wide, expected = moved(loop, torch.float64), moved(gradients, torch.float64)
    lstm_loop_forward(wide)
    lstm_loop_backward(wide, expected)
    lstm_loop_forward(loop, implementation="triton")
    lstm_loop_backward(loop, gradients, implementation="triton")
    for name in ("x", "y", "norms"):
        if getattr(gradients, name) is not None:
            assert_close(getattr(gradients, name), getattr(expected, name), 2e-5)


def test_the_derivative_is_that_of_the_steps():
    """Against autograd, through the same steps."""
    cells, recurrent, projected, rows, width = 4, 2, 3, 12, 3
    loop = moved(make_loop(rows, width, cells, recurrent, projected, False, 1.0), torch.float64)
    gradients = moved(make_gradients(loop), torch.float64)
    of_out, of_y = gradients.out.clone(), gradients.y.clone()
    gates = loop.x[:, : 4 * cells].clone().requires_grad_()
    state = torch.zeros(width, cells + recurrent, dtype=torch.float64, device=DEVICE)
    total = torch.zeros((), dtype=torch.float64, device=DEVICE)
    for first in range(0, rows, width):
        c, r = state.split([cells, recurrent], 1)
        i, f, g, o = (gates[first : first + width] + r @ loop.w_r.t()).chunk(4, 1)
        w_ic, w_fc, w_oc = loop.peepholes
        cell = torch.sigmoid(f + w_fc * c) * c + torch.sigmoid(i + w_ic * c) * g.tanh()
        m = torch.sigmoid(o + w_oc * cell) * cell.tanh()
        y = m @ loop.w_p.t() + loop.b_p
        part = slice(first, first + width)
        total = total + (of_out[part] * torch.cat((cell, m), 1)).sum() + (of_y[part] * y).sum()
        state = torch.cat((cell, y[:, :recurrent]), 1)
    (expected,) = torch.autograd.grad(total, gates)
    lstm_loop_forward(loop)
    lstm_loop_backward(loop, gradients)
    torch.testing.assert_close(gradients.x[:, : 4 * cells], expected)
