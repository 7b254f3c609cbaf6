"""Restricted attention's kernels give what the reference does."""

import pytest
import torch

from nnet.kernels.attention.reference import Heads, restricted_attention
from nnet.kernels.windows.windows import Windows
from tests.kernels.triton_cases import DEVICE, check_against_reference, nan_around

STORED = 17
HEADS = Heads(3, key_dim=5, value_dim=6, positions=4, here=1, key_scale=0.4)


def windows(step, stride):
    """Windows of 4 rows, the second of which is the own; some rows are not there."""
    own = torch.arange(0, STORED, step)
    index = own[:, None] + stride * (torch.arange(4) - 1)
    return Windows(len(own), index=torch.where((index >= 0) & (index < STORED), index, -1))


def inputs(batch, dtype):
    generator = torch.Generator().manual_seed(batch)
    columns = HEADS.number * sum(HEADS.sizes)
    x = torch.randn(STORED, batch, columns, generator=generator)
    return nan_around(x.to(DEVICE, dtype))


def check(batch, step, stride, dtype):
    where = windows(step, stride)
    x = inputs(batch, dtype)
    shape = (where.count, batch, HEADS.number, HEADS.value_dim + HEADS.positions)
    of_result = torch.randn(shape, generator=torch.Generator().manual_seed(7)).to(DEVICE, dtype)
    check_against_reference(
        lambda implementation, x: torch.cat(
            restricted_attention(x, HEADS, where, implementation=implementation), dim=-1
        ),
        [x],
        of_result,
    )


@pytest.mark.parametrize(("batch", "step", "stride"), [(1, 1, 1), (3, 1, 2), (2, 3, 1), (2, 5, 3)])
def test_forward_and_gradients(batch, step, stride):
    check(batch, step, stride, torch.float32)


def test_bfloat16():
    check(2, 1, 1, torch.bfloat16)


def test_weights_add_up_to_one():
    _, weights = restricted_attention(
        inputs(2, torch.float32), HEADS, windows(1, 1), implementation="triton"
    )
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))


def test_operators():
    from nnet.kernels.attention import gpu as operators

    x, where = inputs(2, torch.float32), windows(2, 1)
    index = where.index.to(DEVICE)
    torch.library.opcheck(operators.forward, (x, list(HEADS[:5]), 0.4, index))
    y, weights = operators.forward(x, list(HEADS[:5]), 0.4, index)
    torch.library.opcheck(
        operators.backward, (x, weights, y, weights.clone(), list(HEADS[:5]), 0.4, index)
    )
