"""Log-softmax with the log-likelihood of targets, without ever storing probabilities.

For rows x, and a row's targets w_k with the sum W, either pairs of a column and its weight, as many
for each row or listed with their rows, or the weights of all columns,

objective = sum_k w_k (x_k - z),   z = log sum_k exp(x_k),
derivative by x_k = w_k - W exp(x_k - z).

The rows are read once for the objective and once for the derivative, which can take their place.
Kept in between are z and W, two numbers a row. torch's reference takes a few rows at a time, which
stay in a processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from nnet.kernels.implementation import Implementation, triton_file, uses_triton

BLOCK = 1 << 17
"""Elements that the reference works on at a time, on a CPU."""


class LogLikelihood(NamedTuple):
    """What `log_likelihood` finds.

    Attributes:
        objective: of each row, float32 (rows,).
        best: the column with the largest element, int64 (rows,); the first of equal ones.
    """

    objective: Tensor
    best: Tensor


class Targets(NamedTuple):
    """What rows are compared to.

    Attributes:
        weights: float32 (rows, pairs), unused pairs weigh 0; or (rows, dim), if there are no `ids`.
        ids: int64 (rows, pairs), or None.
        scales: by which all weights of a row are to be multiplied, float32 (rows,), or None.
    """

    weights: Tensor
    ids: Tensor | None = None
    scales: Tensor | None = None

    def rows(self, which: slice) -> Targets:
        """The targets of some of the rows."""
        return self.map(lambda part: part[which])

    def map(self, change: Callable[[Tensor], Tensor]) -> Targets:
        """These targets with each tensor changed."""
        ids = None if self.ids is None else change(self.ids)
        scales = None if self.scales is None else change(self.scales)
        return Targets(change(self.weights), ids, scales)

    def scaled(self, gradient: Tensor) -> Targets:
        """These targets with each row's scale multiplied."""
        scales = gradient if self.scales is None else gradient * self.scales
        return self._replace(scales=scales)

    def squares(self, dim: int) -> Tensor:
        """The sums over rows of the square of each column's weight, (dim,)."""
        scales = 1.0 if self.scales is None else self.scales.unsqueeze(1)
        weights = self.weights * scales
        if self.ids is None:
            return weights.square_().sum(0)
        sums = weights.new_zeros(dim)
        for ids, weight in zip(self.ids.unbind(1), weights.unbind(1), strict=True):
            same = torch.where(self.ids == ids.unsqueeze(1), weights, 0.0).sum(1)
            sums.index_add_(0, ids, weight * same)
        return sums


class ListedTargets(NamedTuple):
    """Pairs of a column and its weight, any number of them for each row.

    Attributes:
        rows, ids: int64 (pairs,); a row and column may be there several times.
        weights: float32 (pairs,).
    """

    rows: Tensor
    ids: Tensor
    weights: Tensor

    def scaled(self, gradient: Tensor) -> ListedTargets:
        """These targets with each row's weights multiplied."""
        return self._replace(weights=self.weights * gradient[self.rows])

    def squares(self, dim: int) -> Tensor:
        """The sums over rows of the square of each column's weight, (dim,)."""
        sums = self.weights.new_zeros(dim)
        return sums.index_add_(0, self.ids, self.weights * self.totals(dim))

    def totals(self, dim: int) -> Tensor:
        """For each pair the weight of all that have its row and column, (pairs,)."""
        places, order = torch.sort(self.rows * dim + self.ids)
        group = (places.diff(prepend=places[:1]) != 0).cumsum(0)
        sums = torch.zeros_like(self.weights).index_add_(0, group, self.weights[order])
        return torch.empty_like(self.weights).index_copy_(0, order, sums[group])


AnyTargets = Targets | ListedTargets


class Forward(NamedTuple):
    """What is found of each row.

    Attributes:
        objective, z, mass: the objective, z and W of the formula above, float32 (rows,).
        best: the column with the largest element, int64 (rows,).
    """

    objective: Tensor
    z: Tensor
    mass: Tensor
    best: Tensor


def log_likelihood(
    x: Tensor,
    targets: AnyTargets,
    *,
    consume: bool = False,
    implementation: Implementation = "reference",
) -> LogLikelihood:
    """The formula above. It can be derived by `x` alone, and once.

    Args:
        x: (rows, dim).
        consume: nobody needs x afterwards, so that the derivative may take its place.
    """
    objective, best = _LogLikelihood.apply(x, targets, consume, implementation)
    return LogLikelihood(objective, best)


def forward(
    x: Tensor, targets: AnyTargets, *, implementation: Implementation = "reference"
) -> Forward:
    """The formula above, for rows without gaps."""
    if isinstance(targets, ListedTargets):
        results = forward(x, _no_pairs(x), implementation=implementation)
        rows, ids, weights = targets
        values = x[rows, ids].to(results.z.dtype) - results.z[rows]
        results.objective.index_add_(0, rows, weights.to(results.z.dtype) * values)
        results.mass.index_add_(0, rows, weights.to(results.z.dtype))
        return results
    if uses_triton(implementation, x, targets.weights, targets.scales):
        launch = triton_file("softmax.gpu").log_likelihood_forward
        return Forward(*launch(x, *targets))
    objective, z, mass = (x.new_empty(len(x), dtype=_wide_type(x)) for _ in range(3))
    results = Forward(objective, z, mass, x.new_empty(len(x), dtype=torch.int64))
    for chosen in _blocks(x):
        _forward_rows(x[chosen], targets.rows(chosen), Forward(*(part[chosen] for part in results)))
    return results


def _forward_rows(x: Tensor, targets: Targets, results: Forward) -> None:
    x = x.to(results.z.dtype)
    largest, results.best[:] = x.max(1)
    shifted = x - largest.unsqueeze(1)
    torch.sum(shifted.exp_(), 1, out=results.z).log_().add_(largest)
    values = x if targets.ids is None else x.gather(1, targets.ids)
    results.objective[:] = (targets.weights * (values - results.z.unsqueeze(1))).sum(1)
    results.mass[:] = targets.weights.sum(1)
    if targets.scales is not None:
        results.objective.mul_(targets.scales)
        results.mass.mul_(targets.scales)


def backward(
    x: Tensor,
    z: Tensor,
    mass: Tensor,
    targets: AnyTargets,
    gradient: Tensor,
    result: Tensor,
    *,
    implementation: Implementation = "reference",
) -> None:
    """Writes the derivative by x to `result`, which may be x.

    Args:
        z, mass: what `forward` gave.
        gradient: for the objectives of the rows, (rows,).
    """
    if isinstance(targets, ListedTargets):
        where = (targets.rows, targets.ids)
        probabilities = (x[where].to(z.dtype) - z[targets.rows]).exp_()
        values = targets.scaled(gradient).totals(x.shape[1])
        values = values - (mass * gradient)[targets.rows] * probabilities
        backward(x, z, mass, _no_pairs(x), gradient, result, implementation=implementation)
        result[where] = values.to(result.dtype)
        return
    if uses_triton(implementation, x, targets.weights, targets.scales):
        launch = triton_file("softmax.gpu").log_likelihood_backward
        launch(x, z, mass, *targets, gradient, result)
        return
    scaled = targets.scaled(gradient)
    for rows in _blocks(x):
        weights, ids, scales = scaled.rows(rows)
        assert scales is not None
        weights = (weights * scales.unsqueeze(1)).to(z.dtype)
        derivative = result[rows] if result.dtype == z.dtype else x[rows].to(z.dtype)
        torch.sub(x[rows].to(z.dtype), z[rows].unsqueeze(1), out=derivative)
        derivative.exp_().mul_(-(mass[rows] * gradient[rows]).unsqueeze(1))
        if ids is None:
            derivative.add_(weights)
        else:
            derivative.scatter_add_(1, ids, weights)
        if result.dtype != z.dtype:
            result[rows] = derivative


def _no_pairs(x: Tensor) -> Targets:
    """Targets of no column in any row of `x`."""
    shape = (len(x), 0)
    return Targets(x.new_empty(shape, dtype=torch.float32), x.new_empty(shape, dtype=torch.int64))


def _wide_type(x: Tensor) -> torch.dtype:
    """float32, or what is wider."""
    return torch.promote_types(x.dtype, torch.float32)


def _blocks(x: Tensor) -> Iterator[slice]:
    """All rows, a few at a time; on a GPU all of them."""
    rows, dim = x.shape
    step = max(1, BLOCK // max(dim, 1)) if x.device.type == "cpu" else max(rows, 1)
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


class _LogLikelihood(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        targets: AnyTargets,
        consume: bool,
        implementation: Implementation,
    ) -> tuple[Tensor, Tensor]:
        x = x.contiguous()
        results = forward(x, targets, implementation=implementation)
        ctx.save_for_backward(x, results.z, results.mass)
        ctx.targets, ctx.consume, ctx.implementation = targets, consume, implementation
        ctx.mark_non_differentiable(results.best)
        return results.objective, results.best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, z, mass = ctx.saved_tensors
        result = x if ctx.consume else torch.empty_like(x)
        given = (x, z, mass, ctx.targets, gradient, result)
        backward(*given, implementation=ctx.implementation)
        return result, None, None, None
