"""An affine transform of rows of a loop, a step at a time, in C++ against torch in float64."""

from __future__ import annotations

import pytest
import torch

from nnet.kernels.affine.packed import pack
from nnet.kernels.affine.steps import AffineSteps

pytestmark = pytest.mark.usefixtures("instruction_set")


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("dim", [1, 37, 64])
def test_steps_are_products_of_their_rows(dim: int, adds: bool) -> None:
    torch.manual_seed(dim)
    sources = [torch.randn(23, columns + 3)[:, :columns] for columns in (5, 40, 17)]
    blocks = [torch.randn(source.shape[1], dim) for source in sources]
    bias, out = torch.randn(dim), torch.randn(23, dim + 9)[:, :dim]
    steps = [(0, 7), (20, 23), (7, 8)]
    expected = out.double()
    for first, end in steps:
        made = bias.double() + sum(
            source[first:end].double() @ block.double()
            for source, block in zip(sources, blocks, strict=True)
        )
        expected[first:end] = made + expected[first:end] if adds else made
    run = AffineSteps(sources, pack(blocks), bias, out, steps, adds)
    for number in range(len(steps)):
        run(number)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-4)
