"""Sums of rows in C++ against torch in float64."""

import pytest
import torch

from nnet.kernels.windows.cpu import native_deviations, native_sum

pytestmark = pytest.mark.usefixtures("instruction_set")


@pytest.mark.parametrize("dim", [1, 63, 64, 200])
@pytest.mark.parametrize("squares", [False, True])
@pytest.mark.parametrize("rows", [1, 500])
def test_sums_are_float64s(dim: int, squares: bool, rows: int) -> None:
    torch.manual_seed(dim)
    x = 100 + torch.randn(rows, 4, dim + 5)[:, 1:, 3 : 3 + dim]
    found = native_sum(x, squares)
    wide = x.double()
    expected = torch.cat((wide, wide.square()), dim=-1) if squares else wide
    torch.testing.assert_close(found, expected.sum(dim=0), rtol=1e-14, atol=0)


def test_threads_change_nothing() -> None:
    x = torch.randn(300, 2, 333)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(native_sum(x, squares=True))
    torch.set_num_threads(before)
    assert torch.equal(*results)


def test_other_tensors_are_left_to_torch() -> None:
    x = torch.randn(3, 2, 4)
    assert native_sum(x.double(), squares=False) is None
    assert native_sum(x.transpose(1, 2), squares=False) is None
    assert native_sum(x.requires_grad_(), squares=False) is None


@pytest.mark.parametrize("dim", [1, 63, 200])
def test_deviations_are_those_of_rounded_means(dim: int) -> None:
    torch.manual_seed(dim)
    x = 3 + torch.randn(70, 4, dim + 5)[:, 1:, 3 : 3 + dim]
    x[:, 0] = x[0, 0]  # which has no variance
    found = native_deviations(x, 1e-10)
    assert found is not None
    wide = x.double()
    mean, square = wide.mean(dim=0).float(), wide.square().mean(dim=0).float()
    deviation = (square - mean.square()).clamp_min(1e-10).sqrt()
    torch.testing.assert_close(found, torch.cat((mean, deviation), dim=-1))


def test_deviations_of_other_tensors_are_left_to_torch() -> None:
    assert native_deviations(torch.randn(3, 2, 4).double(), 0.1) is None
