"""The log-likelihood objective on a log-softmax: one formula, and its derivative in place."""

import pytest
import torch

from nnet.kernels.log_softmax import log_likelihood
from tests.kernels.triton_cases import DEVICE, assert_close, nan_around


def case(rows, dim, pairs, dtype):
    generator = torch.Generator().manual_seed(rows + dim)
    x = 5 * torch.randn(rows, dim, generator=generator)
    x[0, 0] = 1e4  # a row that overflows without its largest element taken off
    ids = torch.randint(0, dim, (rows, pairs), generator=generator)
    weights = torch.rand(rows, pairs, generator=generator)
    weights[:, 1:] *= (torch.arange(rows) % 2).unsqueeze(1)  # some pairs are unused
    gradient = torch.randn(rows, generator=generator)
    return nan_around(x.to(dtype).to(DEVICE)), ids.to(DEVICE), weights.to(DEVICE), gradient


def plainly(x, ids, weights, gradient):
    """By torch's own log-softmax, in float64; the derivative too."""
    x = x.double().detach().requires_grad_()
    objective = (weights * x.log_softmax(1).gather(1, ids)).sum(1)
    objective.backward(gradient.to(objective))
    return objective.detach(), x.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("implementation", ["reference", "triton"])
@pytest.mark.parametrize(("rows", "dim", "pairs"), [(7, 63, 1), (3, 129, 4), (1, 1, 1), (5, 64, 2)])
@pytest.mark.parametrize("consume", [False, True])
def test_objective_and_derivative(rows, dim, pairs, consume, implementation, dtype):
    given, ids, weights, gradient = case(rows, dim, pairs, dtype)
    expected, derivative = plainly(given, ids, weights, gradient)
    largest = given.double().amax(1)
    x = given.detach().requires_grad_()
    found = log_likelihood(x, ids, weights, consume=consume, implementation=implementation)
    assert torch.equal(given.double().gather(1, found.best.unsqueeze(1)).squeeze(1), largest)
    found.objective.backward(gradient.to(found.objective))
    assert_close(found.objective.detach(), expected, 1e-2 if dtype == torch.bfloat16 else 1e-5)
    assert_close(x.grad, derivative, 1e-2 if dtype == torch.bfloat16 else 1e-5)


def test_the_first_of_equal_elements_is_the_best():
    x = torch.zeros(2, 200, device=DEVICE)
    x[1, [70, 150]] = 1
    ids, weights = torch.zeros(2, 1, dtype=torch.int64), torch.ones(2, 1)
    found = log_likelihood(x, ids.to(DEVICE), weights.to(DEVICE), implementation="triton")
    assert found.best.tolist() == [0, 70]


def test_operators():
    from nnet.kernels.gpu import log_softmax as operators

    x, ids, weights, gradient = case(3, 17, 2, torch.float32)
    x = x.clone()
    torch.library.opcheck(operators.forward, (x, ids, weights))
    z, target = torch.logsumexp(x, 1), torch.empty_like(x)
    torch.library.opcheck(operators.backward, (x, z, ids, weights, gradient.to(DEVICE), target))
