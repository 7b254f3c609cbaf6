"""All parameters are updated as if one by one."""

import pytest
import torch

from nnet.kernels.update.parameters import add_changes, make_changes
from tests.kernels.triton_cases import DEVICE, nan_around

SHAPES = [(3, 5), (1,), (129, 65), (0,), (8193,)]


def tensors(seed):
    generator = torch.Generator().manual_seed(seed)
    return [nan_around(torch.randn(*s, generator=generator).to(DEVICE)) for s in SHAPES]


def case(momentum):
    buffers = [None if i % 2 else t for i, t in enumerate(tensors(2))] if momentum else [None] * 5
    scales = torch.tensor([-0.5, 2.0, 1e-3, 1.0, -1.0], device=DEVICE)
    penalties = torch.tensor([0.0, 0.25, 0.0, 0.5, 1e-3], device=DEVICE)
    return tensors(0), tensors(1), buffers, scales, penalties


def changes(arguments):
    """Where the changes are afterwards."""
    _, gradients, buffers, *_ = arguments
    return [g if b is None else b for g, b in zip(gradients, buffers, strict=True)]


@pytest.mark.parametrize("momentum", [False, True])
def test_changes_and_their_squares(momentum):
    expected, found = case(momentum), case(momentum)
    squares = make_changes(*expected)
    own = make_changes(*found, implementation="triton")
    torch.testing.assert_close(own, squares, rtol=1e-6, atol=0)
    for ours, theirs in zip(changes(found), changes(expected), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_changes_are_added_and_left_out_where_the_multiplier_is_zero():
    multipliers = torch.tensor([0.5, 0.0, -2.0, 1.0, 1e-3], device=DEVICE)
    expected, found, added = tensors(0), tensors(0), tensors(1)
    added[1].fill_(torch.nan)
    add_changes(expected, added, multipliers)
    add_changes(found, added, multipliers, implementation="triton")
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
        assert ours.isfinite().all()


def test_parameters_count_as_changed():
    """So that who keeps something made of them makes it anew."""
    parameters, gradients, *rest = case(momentum=False)
    before = [t._version for t in (*parameters, *gradients)]
    make_changes(parameters, gradients, *rest, implementation="triton")
    add_changes(parameters, gradients, torch.ones(5, device=DEVICE), implementation="triton")
    assert all(t._version > v for t, v in zip((*parameters, *gradients), before, strict=True))


def test_operators():
    from nnet.kernels.update.gpu import parameters as operators

    parameters, gradients, buffers, *numbers = case(momentum=True)
    buffers = [torch.empty(0, device=DEVICE) if b is None else b for b in buffers]
    torch.library.opcheck(operators.make, (parameters, gradients, buffers, *numbers))
    arguments = (tensors(0), tensors(1), torch.ones(5, device=DEVICE))
    torch.library.opcheck(operators.add, arguments)
