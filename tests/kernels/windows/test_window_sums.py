"""The window sums' kernels give what the reference does."""

import pytest
import torch

from nnet.kernels.windows.reference import Members, window_sums
from tests.kernels.triton_cases import DEVICE, TOLERANCES, check_against_reference, nan_around

STORED = 13
CASES = {
    "all": [range(STORED)],
    "one after the other": [range(5), range(5, 10), range(10, 13)],
    "overlapping": [range(7), range(3, 10), range(6, 13)],
    "some rows": [[0, 2, 4, 12], [], [5, 6, 12]],
}


def members(case):
    rows = [torch.tensor(list(window), dtype=torch.int64) for window in CASES[case]]
    ends = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    return Members(ends, torch.cat(rows), STORED)


def inputs(batch, dim, dtype):
    x = torch.randn(STORED, batch, dim, generator=torch.Generator().manual_seed(dim))
    return nan_around(x.to(DEVICE, dtype))


def check(case, batch, dim, squares, dtype):
    windows = members(case)
    shape = (windows.windows, batch, dim * (1 + squares))
    of_result = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    check_against_reference(
        lambda implementation, x: window_sums(
            x, windows, squares=squares, implementation=implementation
        ),
        [inputs(batch, dim, dtype)],
        of_result,
        tolerance=TOLERANCES[dtype],
        of_dtype=torch.float64,
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("squares", [False, True])
def test_forward_and_gradients(case, squares):
    check(case, 3, 7, squares, torch.float32)


def test_equal_rows_have_no_variance():
    x = torch.full((STORED, 1, 3), 0.1, device=DEVICE)
    sums = window_sums(x, members("all"), squares=True, implementation="triton")
    mean, square = (sums / STORED).float().split(3, dim=-1)
    assert torch.equal(square, x[:1].double().square().float())
    assert torch.equal(mean, x[:1])


def test_bfloat16():
    check("overlapping", 2, 21, True, torch.bfloat16)


def test_transposing_members_twice_changes_nothing():
    given = members("some rows")
    twice = given.transposed.transposed
    assert torch.equal(twice.ends, given.ends)
    assert torch.equal(twice.rows, given.rows)


def test_operators():
    from nnet.kernels.windows import gpu as operators

    x, given = inputs(2, 5, torch.float32), members("some rows")
    gradient = torch.randn(3, 2, 10, device=DEVICE, dtype=torch.float64)
    ends, rows = given.ends.to(DEVICE), given.rows.to(DEVICE)
    torch.library.opcheck(operators.forward, (x, ends, rows, True))
    ends, rows = given.transposed.ends.to(DEVICE), given.transposed.rows.to(DEVICE)
    torch.library.opcheck(operators.backward, (x, gradient, ends, rows, True))
