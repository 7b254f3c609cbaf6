"""Batch-norm's kernels give what the reference does."""

import pytest
import torch

from nnet.kernels.normalization.batch_norm import batch_norm, merge_statistics
from tests.kernels.normalization.test_affine_batch_norm import Unit
from tests.kernels.triton_cases import (
    DEVICE,
    TOLERANCES,
    assert_close,
    check_against_reference,
    nan_around,
)

EPSILON = 1e-3


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(DEVICE)


def check(rows, dim, dtype, relu, with_bypass, tolerance=None):
    x = nan_around((random(rows, dim) + torch.linspace(-1, 1, dim).to(DEVICE)).to(dtype))
    inputs = [x, nan_around(random(rows, dim, seed=1).to(dtype))][: 1 + with_bypass]

    def function(implementation, x, *bypass):
        return batch_norm(
            x,
            0.7,
            EPSILON,
            relu=relu,
            bypass=bypass[0] if bypass else None,
            bypass_scale=0.66,
            implementation=implementation,
        )[0]

    check_against_reference(function, inputs, random(rows, dim, seed=2).to(dtype), tolerance)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("rows", "dim"), [(63, 37), (5, 16), (7, 1), (100, 3)])
def test_forward_and_gradients(rows, dim, relu):
    check(rows, dim, torch.float32, relu, with_bypass=False)


@pytest.mark.parametrize("relu", [False, True])
def test_bypass(relu):
    check(33, 20, torch.float32, relu, with_bypass=True)


def test_bfloat16():
    check(63, 20, torch.bfloat16, relu=True, with_bypass=True)


@pytest.mark.parametrize("repairs", [False, True])
@pytest.mark.parametrize(("rows", "dim"), [(63, 37), (5, 16), (1, 3)])
def test_what_a_unit_stores_and_its_repair(rows, dim, repairs):
    shown = {}
    for implementation in ("reference", "triton"):
        dtype = torch.float64 if implementation == "reference" else torch.float32
        x = nan_around(random(rows, dim)).to(dtype).requires_grad_()
        unit = Unit(0.1 * random(dim, seed=4) if repairs else None)
        y, *_ = batch_norm(x, 0.7, EPSILON, relu=True, watch=unit, implementation=implementation)
        y.backward(random(rows, dim, seed=2).to(dtype))
        shown[implementation] = {**unit.shown, "gradient": x.grad}
    for name, found in shown["triton"].items():
        expected = shown["reference"][name]
        if rows > 1 or name != "squares":  # of one row, all is rounding
            assert_close(found.float(), expected.double(), 1e-5)


@pytest.mark.parametrize("relu", [False, True])
def test_statistics(relu):
    x = random(63, 9) + 100  # a mean that is large against the standard deviation
    _, mean, variance = batch_norm(x, 1.0, EPSILON, relu=relu, implementation="triton")
    assert_close(mean, x.double().mean(0), TOLERANCES[torch.float32])
    assert_close(variance, x.double().var(0, correction=0), TOLERANCES[torch.float32])


def test_one_row_has_no_variance():
    y, mean, variance = batch_norm(random(1, 5), 1.0, EPSILON, implementation="triton")
    assert_close(mean, random(1, 5)[0].double())
    assert not variance.any()
    assert not y.any()


@pytest.mark.parametrize("implementation", ["reference", "triton"])
def test_merging_statistics(implementation):
    first, second = random(20, 5), random(13, 5, seed=1) + 2
    stored = [
        torch.tensor(20.0, device=DEVICE),
        first.mean(0),
        first.var(0, correction=0),
    ]
    found = second.mean(0), second.var(0, correction=0)
    merge_statistics(tuple(stored), found, 13, implementation=implementation)
    both = torch.cat((first, second)).double()
    assert stored[0] == 33
    assert_close(stored[1], both.mean(0))
    assert_close(stored[2], both.var(0, correction=0))


@pytest.mark.parametrize("implementation", ["reference", "triton"])
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_rows_that_are_not_finite_are_not_counted(wrong, implementation):
    stored = (torch.tensor(7.0, device=DEVICE), random(5), random(5).abs())
    before = [statistic.clone() for statistic in stored]
    mean = random(5, seed=1)
    mean[3] = wrong
    merge_statistics(stored, (mean, random(5).abs()), 13, implementation=implementation)
    for statistic, kept in zip(stored, before, strict=True):
        assert torch.equal(statistic, kept)


def test_operators():
    from nnet.kernels.normalization.gpu import batch_norm as operators
    from nnet.kernels.normalization.gpu.batch_norm_gradient import batch_norm_backward

    x = random(9, 5)
    torch.library.opcheck(operators.batch_norm_forward, (x, x, 1.0, EPSILON, True, 0.5))
    stored = (torch.tensor(7.0, device=DEVICE), x[0].clone(), x[1].square())
    torch.library.opcheck(operators.merge, (*stored, x[2].clone(), x[3].square(), 9))
    known = (x[0].clone(), x[0].square())
    for repair, squares in ((None, False), (x[4].clone(), True)):
        torch.library.opcheck(
            batch_norm_backward, (x, x, *known, repair, 1.0, EPSILON, True, squares)
        )
