"""Matrix products by matrix units, against float64."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nnet.kernels.affine import product as matrix_product
from nnet.kernels.affine import sizes as least_sizes
from nnet.kernels.affine.product import by_units, multiply_beside, multiply_rectified

multiply = partial(matrix_product.multiply, implementation="native")
product = partial(matrix_product.product, implementation="native")
product_and_squares = partial(matrix_product.product_and_squares, implementation="native")
product_with_bias = partial(matrix_product.product_with_bias, implementation="native")

sizes = st.sampled_from([2, 5, 16, 17, 32, 63, 96, 130, 300])


@pytest.fixture(autouse=True)
def everything_by_units(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEAST", "LONGER", "MULTIPLICATIONS"):
        monkeypatch.setattr(least_sizes, name, 2)


def matrix(rows: int, columns: int, turned: bool, spare: int = 0) -> Tensor:
    """Random numbers; rows lie apart by some more, which are NaN, or columns do."""
    shape = (columns, rows + spare) if turned else (rows, columns + spare)
    whole = torch.full(shape, torch.nan)
    found = (whole.t() if turned else whole)[:rows, :columns]
    return found.copy_(torch.randn(rows, columns))


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


@settings(deadline=None, max_examples=60)
@given(sizes, sizes, sizes, st.booleans(), st.booleans(), st.booleans(), st.integers(0, 5))
def test_products_are_as_exact_as_those_of_float32(
    rows: int, columns: int, depth: int, first: bool, second: bool, third: bool, spare: int
) -> None:
    a, b = matrix(rows, depth, first, spare), matrix(depth, columns, second, spare)
    out = matrix(rows, columns, third, spare)
    before = out.clone()
    multiply(a, b, out, add=True, scale=0.5)
    expected = before.double() + 0.5 * (a.double() @ b.double())
    assert relative_error(out, expected) < 2e-7
    multiply(a, b, out)
    assert relative_error(out, a.double() @ b.double()) < 2e-7


def test_large_products_are_computed_in_parts() -> None:
    for rows, columns, depth in ((1100, 900, 1000), (40, 70, 3000), (3000, 2100, 20)):
        a, b = torch.randn(rows, depth), torch.randn(depth, columns)
        expected = a.double() @ b.double()
        assert relative_error(product(a, b), expected) < 1.1 * relative_error(a @ b, expected)


def test_numbers_of_any_size_are_multiplied() -> None:
    a = torch.randn(64, 64) * torch.logspace(-15, 15, 64).unsqueeze(1)
    b = torch.randn(64, 64) * torch.logspace(15, -15, 64)
    expected = a.double() @ b.double()
    assert ((product(a, b) - expected) / expected.abs().amax(1, keepdim=True)).abs().max() < 1e-6
    exact = torch.arange(-512.0, 512.0).view(16, 64)
    assert torch.equal(product(exact, torch.eye(64)), exact)
    assert torch.equal(product(exact + 2.0**-14, torch.eye(64)), exact + 2.0**-14)


def test_what_is_not_finite_does_not_become_finite() -> None:
    a, b = torch.randn(64, 64), torch.randn(64, 64)
    a[3, 5], a[40, 1] = torch.nan, torch.inf
    found = product(a, b)
    assert not found[[3, 40]].isfinite().any()
    assert found[:3].isfinite().all()


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


SHAPES = [(500, 90, 200), (90, 500, 33), (700, 300, 1700)]


@pytest.mark.parametrize("shape", SHAPES)
def test_threads_do_not_change_a_product(shape: tuple[int, int, int], two_threads: None) -> None:
    rows, columns, depth = shape
    a, b, bias = torch.randn(rows, depth), torch.randn(depth, columns), torch.randn(columns)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append((product(a, b), *product_and_squares(a, b), *rectified(a, b, bias, 1.0)))
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def rectified(a: Tensor, b: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """What `multiply_rectified` makes, where there are units, and otherwise what it would make."""
    out = torch.empty(len(a), b.shape[1])
    sums = torch.ones(3, b.shape[1], dtype=torch.float64)
    if by_units(a, b, out):
        multiply_rectified(a, b, bias, out, sums, scale=scale)
        return out, sums
    out = (scale * (a @ b) + (0.0 if bias is None else bias)).relu()
    wide = out.double()
    return out, sums + torch.stack((wide.sum(0), wide.square().sum(0), (wide > 0).sum(0)))


@pytest.mark.parametrize("bias", [-0.5, 300.0, None])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_rectified_and_summed_up(
    shape: tuple[int, int, int], bias: float | None
) -> None:
    rows, columns, depth = shape
    a, b = torch.randn(rows, depth), torch.randn(depth, columns) / depth**0.5
    given = None if bias is None else torch.full((columns,), bias)
    out, sums = rectified(a, b, given, 0.5)
    expected = (0.5 * (a.double() @ b.double()) + (bias or 0.0)).relu()
    plain = (0.5 * (a @ b) + (bias or 0.0)).relu()
    assert relative_error(out, expected) <= 1.1 * relative_error(plain, expected)
    wide, total = out.double(), sums - 1.0
    torch.testing.assert_close(total[0], wide.sum(0), rtol=1e-6, atol=1e-4)
    variance = total[1] / rows - (total[0] / rows).square()
    torch.testing.assert_close(variance, wide.var(0, correction=0), rtol=1e-4, atol=1e-6)
    assert torch.equal(total[2], (wide > 0).sum(0).double())


@pytest.mark.parametrize("shape", [*SHAPES, (3, 4, 5)])
def test_a_bias_is_added(shape: tuple[int, int, int]) -> None:
    rows, columns, depth = shape
    a, b, bias = torch.randn(rows, depth), torch.randn(depth, columns), torch.randn(columns)
    expected = 0.5 * (a.double() @ b.double())
    assert relative_error(product_with_bias(a, b, None, 0.5), expected) < 3e-7
    assert relative_error(product_with_bias(a, b, bias, 0.5), expected + bias) < 3e-7


@pytest.mark.parametrize(("batch", "columns"), [(7, 50), (64, 768), (1, 16)])
def test_rows_beside_a_product_are_added(batch: int, columns: int) -> None:
    times = 40
    a, b = torch.randn(times * batch, 96), torch.randn(96, columns)
    others = [torch.randn(batch, columns) if time % 3 == 1 else None for time in range(times)]
    out = torch.full((len(a), columns), torch.nan)
    expected = (a.double() @ b.double()).view(times, batch, columns)
    for time, other in enumerate(others):
        if other is not None:
            expected[time] += 0.66 * other
    if by_units(a, b, out):
        multiply_beside(a, b, out, others, 0.66)
        assert relative_error(out, expected.flatten(0, 1)) < 2e-7


@pytest.mark.parametrize("rows_are_adjacent", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_squares_of_rows(shape: tuple[int, int, int], rows_are_adjacent: bool) -> None:
    rows, columns, depth = shape
    a, b = matrix(rows, depth, not rows_are_adjacent, 5), torch.randn(depth, columns)
    found, squares = product_and_squares(a, b)
    torch.testing.assert_close(squares, a.double().square().sum(1), rtol=1e-6, atol=0)
    assert torch.equal(found, product(a, b))


def test_the_reference_is_torchs_product() -> None:
    a, b = torch.randn(300, 300), torch.randn(300, 300)
    assert torch.equal(matrix_product.product(a, b), a @ b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_other_processors_and_types_take_torchs_product(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix_product, "has_matrix_units", lambda: False)
    a, b, out = (torch.randn(40, 40).to(dtype) for _ in range(3))
    expected = torch.addmm(out, a, b, alpha=0.25)
    multiply(a, b, out, add=True, scale=0.25)
    assert torch.equal(out, expected)
    assert torch.equal(product(a, b), a @ b)
