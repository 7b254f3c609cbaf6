"""Renorm's kernels give what the reference does."""

import pytest
import torch

from nnet.kernels.normalization.renorm import renorm
from tests.kernels.triton_cases import DEVICE, check_against_reference, nan_around


def rows(count, dim, dtype):
    generator = torch.Generator().manual_seed(count)
    x = torch.randn(count, 1, dim, generator=generator)
    x[0] = 0  # no power at all: the floor
    return nan_around(x.to(dtype).to(DEVICE))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("count", "dim", "block_dim"), [(63, 7, 7), (5, 63, 9), (1, 130, 130)])
@pytest.mark.parametrize("log", [False, True])
def test_forward_and_backward(count, dim, block_dim, log, dtype):
    x = rows(count + 1, dim, dtype)
    generator = torch.Generator().manual_seed(1)
    blocks = dim // block_dim
    gradient = torch.randn(count + 1, 1, dim + blocks * log, generator=generator).to(DEVICE)
    if log:
        gradient[0].view(blocks, -1)[:, -1] = 0  # log of the floor: no derivative
    check_against_reference(
        lambda implementation, x: renorm(x, block_dim, 0.7, log, implementation=implementation),
        [x],
        gradient.to(dtype),
    )


@pytest.mark.parametrize("log", [False, True])
def test_operators(log):
    from nnet.kernels.normalization.gpu import renorm as operators

    x = torch.randn(5, 2, 6, device=DEVICE)
    torch.library.opcheck(operators.renorm_forward, (x, 3, 1.0, log))
    gradient = torch.randn(5, 2, 6 + 2 * log, device=DEVICE)
    torch.library.opcheck(operators.renorm_backward, (x, gradient, 3, 1.0, log))
