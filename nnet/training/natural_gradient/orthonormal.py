"""The semi-orthogonal constraint of factored layers (Povey et al., Interspeech 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SPEED = 0.125
"""Gives quadratic convergence near a solution (section 2.2 of the paper)."""


@torch.no_grad()
def constrain_orthonormal(matrix: Tensor, constraint: float) -> None:
    """Moves a matrix one step towards `scale` times one with orthonormal rows, in place.

    If it has more rows than columns, its columns are meant.

    Args:
        matrix: (rows, columns).
        constraint: the scale, or a negative number for one that floats: it is then chosen so that
            the step is orthogonal to the matrix (section 2.3), and far from a solution the step is
            made smaller.
    """
    constrain_all([(matrix, constraint)])


@torch.no_grad()
def constrain_all(matrices: Sequence[tuple[Tensor, float]]) -> None:
    """Constrains matrices, each by its constraint; on a GPU those of one shape together."""
    alike: dict[tuple[torch.Size, float, int], list[Tensor]] = {}
    for number, (matrix, constraint) in enumerate(matrices):
        rows = matrix.detach()
        rows = rows.t() if rows.shape[0] > rows.shape[1] else rows
        alone = number if rows.device.type == "cpu" else 0
        alike.setdefault((rows.shape, constraint, alone), []).append(rows)
    for (_, constraint, _), group in alike.items():
        together = group[0].unsqueeze(0) if len(group) == 1 else torch.stack(group)
        step = _step(together, constraint)
        for rows, change in zip(group, step.unbind(), strict=True):
            rows.add_(change)


def _step(matrices: Tensor, constraint: float) -> Tensor:
    """What is added to matrices (batch, rows, columns)."""
    p = matrices @ matrices.mT
    if constraint > 0:
        factor = p.new_full((len(p), 1, 1), SPEED)
        scale_squared = p.new_full((len(p), 1, 1), constraint * constraint)
    else:
        trace = p.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
        power = p.square().sum((1, 2), keepdim=True)
        used = trace >= 1e-15
        scale_squared = torch.where(used, power / trace, 1.0)
        ratio = power * p.shape[1] / (trace * trace)
        factor = SPEED * torch.where(ratio > 1.02, 0.5, 1.0) * torch.where(ratio > 1.1, 0.5, 1.0)
        factor = torch.where(used, factor, 0.0)
    p.diagonal(dim1=1, dim2=2).sub_(scale_squared[:, 0])
    return p.mul_(-4.0 * factor / scale_squared) @ matrices
