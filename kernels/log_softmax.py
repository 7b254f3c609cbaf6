"""Log-softmax with the log-likelihood of targets, without ever storing probabilities.

For rows x, and a row's targets w_k with the sum W, either pairs of a column and its weight or the
weights of all columns,

objective = sum_k w_k (x_k - z),   z = log sum_k exp(x_k),
derivative by x_k = w_k - W exp(x_k - z).

The rows are read once for the objective and once for the derivative, which can take their place.
Kept in between is z, one number a row. torch's reference takes a few rows at a time, which stay in
a processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from nnet.kernels.implementation import Implementation, uses_triton

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
        """Those of some rows."""
        return Targets(*(None if part is None else part[which] for part in self))  # type: ignore[arg-type]

    def scaled(self, gradient: Tensor) -> Targets:
        """The same with each row's scale multiplied."""
        scales = gradient if self.scales is None else gradient * self.scales
        return self._replace(scales=scales)

    def squares(self, dim: int) -> Tensor:
        """The sums over rows of the square of each column's weight, (dim,)."""
        scales = 1.0 if self.scales is None else self.scales.unsqueeze(1)
        weights = self.weights * scales
        if self.ids is None:
            return weights.square_().sum(0)
        found = weights.new_zeros(dim)
        for ids, weight in zip(self.ids.unbind(1), weights.unbind(1), strict=True):
            same = torch.where(self.ids == ids.unsqueeze(1), weights, 0.0).sum(1)
            found.index_add_(0, ids, weight * same)
        return found


def log_likelihood(
    x: Tensor,
    targets: Targets,
    *,
    consume: bool = False,
    implementation: Implementation = "reference",
) -> LogLikelihood:
    """The formula above. It can be derived by `x` alone, and once.

    Args:
        x: (rows, dim).
        consume: nobody needs x afterwards, so that the derivative may take its place.
    """
    objective, best = _LogLikelihood.apply(x, *targets, consume, implementation)
    return LogLikelihood(objective, best)


def forward(
    x: Tensor, targets: Targets, *, implementation: Implementation = "reference"
) -> tuple[Tensor, Tensor, Tensor]:
    """The objective, z (both float32 (rows,)) and the largest elements' columns."""
    if uses_triton(implementation, x, targets.weights, targets.scales):
        from nnet.kernels.gpu.log_softmax import forward as launch

        found: tuple[Tensor, Tensor, Tensor] = launch(x, *targets)
        return found
    objective = x.new_empty(len(x), dtype=_wide_type(x))
    z, best = torch.empty_like(objective), x.new_empty(len(x), dtype=torch.int64)
    for rows in _blocks(x):
        some, own = x[rows].to(objective.dtype), targets.rows(rows)
        largest, best[rows] = some.max(1)
        shifted = some - largest.unsqueeze(1)
        z[rows] = torch.sum(shifted.exp(), 1).log_().add_(largest)
        values = some if own.ids is None else some.gather(1, own.ids)
        terms = (own.weights * (values - z[rows].unsqueeze(1))).sum(1)
        objective[rows] = terms if own.scales is None else terms * own.scales
    return objective, z, best


def backward(
    x: Tensor,
    z: Tensor,
    targets: Targets,
    gradient: Tensor,
    result: Tensor,
    *,
    implementation: Implementation = "reference",
) -> None:
    """Writes the derivative by x to `result`, which may be x.

    Args:
        z: what `forward` gave.
        gradient: for the objectives of the rows, (rows,).
    """
    if uses_triton(implementation, x, targets.weights, targets.scales):
        from nnet.kernels.gpu.log_softmax import backward as launch

        launch(x, z, *targets, gradient, result)
        return
    scaled = targets.scaled(gradient)
    for rows in _blocks(x):
        weights, ids, scales = scaled.rows(rows)
        assert scales is not None
        weights = (weights * scales.unsqueeze(1)).to(z.dtype)
        found = result[rows] if result.dtype == z.dtype else x[rows].to(z.dtype)
        torch.sub(x[rows].to(z.dtype), z[rows].unsqueeze(1), out=found)
        found.exp_().mul_(-weights.sum(1, keepdim=True))
        if ids is None:
            found.add_(weights)
        else:
            found.scatter_add_(1, ids, weights)
        if result.dtype != z.dtype:
            result[rows] = found


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
        weights: Tensor,
        ids: Tensor | None,
        scales: Tensor | None,
        consume: bool,
        implementation: Implementation,
    ) -> tuple[Tensor, Tensor]:
        x = x.contiguous()
        targets = Targets(weights, ids, scales)
        objective, z, best = forward(x, targets, implementation=implementation)
        ctx.save_for_backward(x, z, *targets)
        ctx.consume, ctx.implementation = consume, implementation
        ctx.mark_non_differentiable(best)
        return objective, best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, z, *targets = ctx.saved_tensors
        result = x if ctx.consume else torch.empty_like(x)
        backward(x, z, Targets(*targets), gradient, result, implementation=ctx.implementation)
        return result, None, None, None, None, None
