"""Sums of squares in C++ against torch in float64."""

from __future__ import annotations

import pytest
import torch

from nnet.kernels.affine.squares import powers

pytestmark = pytest.mark.usefixtures("instruction_set")


@pytest.mark.parametrize("shape", [(1, 1), (5, 63), (300, 2, 1100)])
def test_sums_of_squares(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(*shape[:-1], shape[-1] + 3)[..., :-3]
    expected = x.double().square().flatten(1).sum(1)
    torch.testing.assert_close(powers(x, "native"), expected, rtol=1e-6, atol=0)
