"""Log-softmax with the log-likelihood of targets, without ever storing probabilities.

For rows x, and targets: pairs of an id j and a weight w, with sum W of the row's weights,

objective = sum_j w_j (x_j - z),   z = log sum_k exp(x_k),
derivative by x_k = sum_{j = k} w_j - W exp(x_k - z).

The rows are read once for the objective and once for the derivative, which can take their place.
Kept in between is z, one number a row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from nnet.kernels.implementation import Implementation, uses_triton


class LogLikelihood(NamedTuple):
    """What `log_likelihood` finds.

    Attributes:
        objective: of each row, float32 (rows,).
        best: the column with the largest element, int64 (rows,); the first of equal ones.
    """

    objective: Tensor
    best: Tensor


def log_likelihood(
    x: Tensor,
    ids: Tensor,
    weights: Tensor,
    *,
    consume: bool = False,
    implementation: Implementation = "reference",
) -> LogLikelihood:
    """The formula above. It can be derived by `x` alone, and once.

    Args:
        x: (rows, dim).
        ids: int64 (rows, pairs).
        weights: float32 (rows, pairs); unused pairs weigh 0.
        consume: nobody needs x afterwards, so that the derivative may take its place.
    """
    objective, best = _LogLikelihood.apply(x, ids, weights, consume, implementation)
    return LogLikelihood(objective, best)


def forward(
    x: Tensor, ids: Tensor, weights: Tensor, *, implementation: Implementation = "reference"
) -> tuple[Tensor, Tensor, Tensor]:
    """The objective, z (both float32 (rows,)) and the largest elements' columns."""
    if uses_triton(implementation, x, weights):
        from nnet.kernels.gpu.log_softmax import forward as launch

        found: tuple[Tensor, Tensor, Tensor] = launch(x, ids, weights)
        return found
    wide = _wide(x)
    z = torch.logsumexp(wide, dim=1)
    objective = (weights * (wide.gather(1, ids) - z.unsqueeze(1))).sum(1)
    return objective, z, x.argmax(1)


def backward(
    x: Tensor,
    z: Tensor,
    ids: Tensor,
    weights: Tensor,
    gradient: Tensor,
    target: Tensor,
    *,
    implementation: Implementation = "reference",
) -> None:
    """Writes the derivative by x to `target`, which may be x.

    Args:
        z: what `forward` gave.
        gradient: for the objectives of the rows, (rows,).
    """
    if uses_triton(implementation, x, weights):
        from nnet.kernels.gpu.log_softmax import backward as launch

        launch(x, z, ids, weights, gradient, target)
        return
    scaled = weights * gradient.unsqueeze(1)
    found = target if target.dtype == _wide(x).dtype else _wide(target)
    torch.sub(_wide(x), z.unsqueeze(1), out=found)
    found.exp_().mul_(-scaled.sum(1, keepdim=True)).scatter_add_(1, ids, scaled.to(found.dtype))
    if found is not target:
        target.copy_(found)


def _wide(x: Tensor) -> Tensor:
    """In float32, if it is narrower."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _LogLikelihood(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        ids: Tensor,
        weights: Tensor,
        consume: bool,
        implementation: Implementation,
    ) -> tuple[Tensor, Tensor]:
        x = x.contiguous()
        objective, z, best = forward(x, ids, weights, implementation=implementation)
        ctx.save_for_backward(x, z, ids, weights)
        ctx.consume, ctx.implementation = consume, implementation
        ctx.mark_non_differentiable(best)
        return objective, best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, z, ids, weights = ctx.saved_tensors
        target = x if ctx.consume else torch.empty_like(x)
        backward(x, z, ids, weights, gradient, target, implementation=ctx.implementation)
        return target, None, None, None, None
