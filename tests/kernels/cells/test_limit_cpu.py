"""Limiting the norms of derivatives in C++, and the order of steps."""

from __future__ import annotations

import math

import pytest
import torch

from nnet.kernels.cells.limit_cpu import NativeLimit
from nnet.kernels.native_rows import step_ranges

pytestmark = pytest.mark.usefixtures("instruction_set")


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
