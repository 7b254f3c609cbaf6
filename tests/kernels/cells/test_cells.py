"""The cells of LSTMs and GRUs, and their derivatives."""

import pytest
import torch

from nnet.kernels.cells.gru import gru_cell, gru_cell_gradient
from nnet.kernels.cells.lstm import lstm_cell, lstm_cell_gradient
from tests.kernels.triton_cases import DEVICE, assert_close, nan_around


def random(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return nan_around(torch.randn(*shape, generator=generator).to(dtype).to(DEVICE))


def wide(*tensors):
    return [tensor.double() for tensor in tensors]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("repaired", [False, True])
@pytest.mark.parametrize(("rows", "cells", "masks"), [(9, 33, 0), (5, 7, 3), (1, 64, 0)])
def test_lstm(rows, cells, masks, repaired, dtype):
    x, peepholes = random(rows, 5 * cells + masks, dtype=dtype), random(3, cells)
    gradient = random(rows, 2 * cells, seed=1, dtype=dtype)
    repair = random(5, cells) if repaired else None
    y = lstm_cell(x, peepholes, implementation="triton")
    assert_close(y, lstm_cell(*wide(x, peepholes)))
    found = lstm_cell_gradient(x, y, peepholes, gradient, repair, implementation="triton")
    given = wide(x, y, peepholes, gradient)
    expected = lstm_cell_gradient(*given, None if repair is None else repair.double())
    assert_close(found, expected, 2e-2 if dtype == torch.bfloat16 else 1e-5)


def test_the_lstm_gradient_is_that_of_the_cell():
    x, peepholes = wide(random(4, 5 * 6 + 3), random(3, 6))
    gradient = random(4, 12, seed=1).double()
    x.requires_grad_()
    y = lstm_cell(x, peepholes)
    (expected,) = torch.autograd.grad(y, x, gradient)
    found = lstm_cell_gradient(x, y, peepholes, gradient)
    torch.testing.assert_close(found[:, :30], expected[:, :30])
    assert not found[:, 30:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("by_unit", [False, True])
@pytest.mark.parametrize(("rows", "cells"), [(9, 33), (1, 7), (5, 64)])
def test_gru(rows, cells, by_unit, dtype):
    z = torch.sigmoid(random(rows, cells, seed=1, dtype=dtype))
    inner, previous = (random(rows, cells, seed=n, dtype=dtype) for n in (2, 3))
    feedback = random(cells, dtype=dtype) if by_unit else random(rows, cells, seed=4, dtype=dtype)
    y = gru_cell(z, inner, previous, feedback, implementation="triton")
    assert_close(y, gru_cell(*wide(z, inner, previous, feedback)))
    gradient = random(rows, 2 * cells, seed=5, dtype=dtype)
    found = gru_cell_gradient(z, previous, y, gradient, implementation="triton")
    expected = gru_cell_gradient(*wide(z, previous, y, gradient))
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs)


def test_the_gru_gradient_is_that_of_the_cell():
    z, inner, previous, feedback = (random(4, 6, seed=n).double() for n in range(4))
    inputs = [tensor.requires_grad_() for tensor in (z, inner, previous)]
    y = gru_cell(*inputs, feedback)
    gradient = random(4, 12, seed=9).double()
    expected = torch.autograd.grad(y, inputs, gradient)
    for ours, theirs in zip(gru_cell_gradient(z, previous, y, gradient), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_operators():
    from nnet.kernels.cells.gpu import gru, lstm

    x, peepholes, y = random(3, 33), random(3, 6), random(3, 12)
    torch.library.opcheck(lstm.forward, (x, peepholes))
    torch.library.opcheck(lstm.backward, (x, y, peepholes, y.clone(), None))
    z, inner, previous, feedback = (random(3, 6, seed=n) for n in range(4))
    torch.library.opcheck(gru.forward, (z, inner, previous, feedback))
    torch.library.opcheck(gru.backward, (z, previous, y, y.clone()))
