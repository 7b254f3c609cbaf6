"""The log-likelihood objective on a log-softmax: one formula, and its derivative in place."""

import pytest
import torch

from nnet.kernels.softmax import reference
from nnet.kernels.softmax.reference import ListedTargets, Targets, log_likelihood
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
    targets = Targets(weights, ids)
    found = log_likelihood(x, targets, consume=consume, implementation=implementation)
    assert torch.equal(given.double().gather(1, found.best.unsqueeze(1)).squeeze(1), largest)
    found.objective.backward(gradient.to(found.objective))
    assert_close(found.objective.detach(), expected, 1e-2 if dtype == torch.bfloat16 else 1e-5)
    assert_close(x.grad, derivative, 1e-2 if dtype == torch.bfloat16 else 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("implementation", ["reference", "triton"])
@pytest.mark.parametrize("shape", [(7, 63), (3, 129)])
def test_weights_of_all_columns_and_a_scale_of_each_row(shape, implementation, dtype):
    rows, dim = shape
    given, _, _, gradient = case(rows, dim, 1, dtype)
    generator = torch.Generator().manual_seed(1)
    weights = nan_around(torch.rand(rows, dim, generator=generator).to(DEVICE))
    scales = torch.rand(rows, generator=generator).to(DEVICE)
    columns = torch.arange(dim, device=DEVICE).expand(rows, dim)
    expected, derivative = plainly(given, columns, weights * scales[:, None], gradient)
    x = given.detach().requires_grad_()
    targets = Targets(weights, scales=scales)
    found = log_likelihood(x, targets, implementation=implementation)
    found.objective.backward(gradient.to(found.objective))
    assert_close(found.objective.detach(), expected, 1e-2 if dtype == torch.bfloat16 else 1e-5)
    assert_close(x.grad, derivative, 1e-2 if dtype == torch.bfloat16 else 1e-5)


def listed(rows, dim, pairs):
    """Some rows without a target, and some rows and columns several times."""
    generator = torch.Generator().manual_seed(pairs)
    where = [torch.randint(0, size, (pairs,), generator=generator) for size in (rows, dim)]
    where = [torch.cat((part, part[: pairs // 3], part[: pairs // 4])) for part in where]
    return ListedTargets(*where, torch.rand(len(where[0]), generator=generator))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("implementation", ["reference", "triton"])
@pytest.mark.parametrize(("rows", "dim", "pairs"), [(7, 63, 9), (3, 129, 40), (4, 5, 0)])
@pytest.mark.parametrize("consume", [False, True])
def test_any_number_of_pairs_for_each_row(rows, dim, pairs, consume, implementation, dtype):
    given, _, _, gradient = case(rows, dim, 1, dtype)
    targets = listed(rows, dim, pairs)
    weights = torch.zeros(rows, dim).index_put(targets[:2], targets.weights, accumulate=True)
    columns = torch.arange(dim, device=DEVICE).expand(rows, dim)
    expected, derivative = plainly(given, columns, weights.to(DEVICE), gradient)
    x = given.detach().requires_grad_()
    there = ListedTargets(*(part.to(DEVICE) for part in targets))
    found = log_likelihood(x, there, consume=consume, implementation=implementation)
    found.objective.backward(gradient.to(found.objective))
    assert_close(found.objective.detach(), expected, 1e-2 if dtype == torch.bfloat16 else 1e-5)
    assert_close(x.grad, derivative, 1e-2 if dtype == torch.bfloat16 else 1e-5)


def test_the_reference_takes_rows_in_blocks(monkeypatch):
    given, ids, weights, gradient = case(7, 63, 2, torch.float32)
    expected, derivative = plainly(given, ids, weights, gradient)
    monkeypatch.setattr(reference, "BLOCK", 130)
    x = given.detach().requires_grad_()
    found = log_likelihood(x, Targets(weights, ids))
    found.objective.backward(gradient.to(found.objective))
    assert_close(found.objective.detach(), expected)
    assert_close(x.grad, derivative)


def test_squares_of_the_weights_by_column():
    ids = torch.tensor([[0, 2, 2], [1, 1, 0]])
    weights = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.25, 0.0]])
    scales = torch.tensor([2.0, 4.0])
    dense = torch.zeros(2, 4).scatter_add(1, ids, weights)
    expected = (dense * scales[:, None]).square().sum(0)
    torch.testing.assert_close(Targets(weights, ids, scales).squares(4), expected)
    torch.testing.assert_close(Targets(dense, scales=scales).squares(4), expected)
    rows = torch.tensor([[0, 0, 0], [1, 1, 1]])
    pairs = ListedTargets(*(part.flatten() for part in (rows, ids, weights)))
    torch.testing.assert_close(pairs.scaled(scales).squares(4), expected)


@pytest.mark.parametrize("implementation", ["reference", "triton"])
def test_the_first_of_equal_elements_is_the_best(implementation):
    x = torch.zeros(2, 200, device=DEVICE)
    x[1, [70, 150]] = 1
    targets = Targets(torch.ones(2, 1).to(DEVICE), torch.zeros(2, 1, dtype=torch.int64).to(DEVICE))
    found = log_likelihood(x, targets, implementation=implementation)
    assert found.best.tolist() == [0, 70]


def test_operators():
    from nnet.kernels.softmax import gpu as operators

    x, ids, weights, gradient = case(3, 17, 2, torch.float32)
    x = x.clone()
    z, result = torch.logsumexp(x, 1), torch.empty_like(x)
    gradient, mass = gradient.to(DEVICE), weights.sum(1)
    for targets in (Targets(weights, ids), Targets(x.clone(), scales=z.clone())):
        torch.library.opcheck(operators.log_likelihood_forward, (x, *targets))
        torch.library.opcheck(
            operators.log_likelihood_backward, (x, z, mass, *targets, gradient, result)
        )
