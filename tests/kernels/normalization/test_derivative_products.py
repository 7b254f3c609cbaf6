"""The gradient before a unit with batch-norm, multiplied as it is made."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nnet.kernels.normalization.derivative_products import (
    Products,
    derivative_products,
    makes_products,
)
from nnet.kernels.normalization.relu_batch_norm import input_gradient


def by_definition(
    gradient: Tensor, z: Tensor, vectors: list[Tensor], matrix: Tensor, x: Tensor, rank: int
) -> Products:
    """The same in float64."""
    sums = torch.zeros(3, z.shape[1], dtype=torch.float64)
    d = torch.empty_like(z, dtype=torch.float64)
    wide = tuple(vector.double() for vector in vectors)
    input_gradient(gradient.double(), z.double(), wide, d, sums)
    made = d @ matrix.double()
    h = made[:, made.shape[1] - rank :]
    return Products(made, x.double().t() @ d, h.t() @ d, sums)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("rows", "dim", "width", "columns", "rank"),
    [
        (300, 96, 60, 40, 20),
        (1, 1, 1, 1, 1),
        (129, 50, 17, 33, 0),
        (640, 768, 272, 192, 80),
        (200, 70, 0, 20, 0),
        (200, 70, 40, 0, 0),
        (200, 70, 40, 0, 40),
    ],
)
def test_all_products(
    rows: int, dim: int, width: int, columns: int, rank: int, threads: int
) -> None:
    gradient, z = torch.randn(rows, dim), torch.randn(rows, dim).relu()
    vectors = [torch.rand(dim), *torch.randn(4, dim).unbind()]
    matrix = torch.randn(width, dim).t().contiguous()
    x = torch.randn(rows, columns + 3)[:, :columns]
    if not makes_products(gradient, z, x):
        assert not makes_products(gradient)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    given = gradient, z, vectors, matrix, x, rank
    found, again = derivative_products(*given), derivative_products(*given)
    torch.set_num_threads(before)
    expected = by_definition(*given)
    for ours, same, exact in zip(found, again, expected, strict=True):
        assert torch.equal(ours, same)
        assert ours.shape == exact.shape
        assert (ours.double() - exact).norm() <= 1e-6 * max(1.0, float(exact.norm()))


def test_other_types_are_not_multiplied_so() -> None:
    assert not makes_products(torch.zeros(2, 2, dtype=torch.float64))
    assert not makes_products(torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.bfloat16))
