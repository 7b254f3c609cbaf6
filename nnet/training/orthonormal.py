"""The semi-orthogonal constraint of factored layers (Povey et al., Interspeech 2018)."""

from __future__ import annotations

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
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.t()
    p = matrix @ matrix.t()
    if constraint > 0:
        scale_squared = torch.as_tensor(constraint * constraint, device=p.device)
        speed = torch.as_tensor(SPEED, device=p.device)
    else:
        trace, power = p.trace(), p.square().sum()
        used = trace >= 1e-15
        scale_squared = torch.where(used, power / trace, 1.0)
        ratio = power * len(p) / (trace * trace)
        speed = SPEED * torch.where(ratio > 1.02, 0.5, 1.0) * torch.where(ratio > 1.1, 0.5, 1.0)
        speed = torch.where(used, speed, 0.0)
    p.diagonal().sub_(scale_squared)
    p.mul_(-4.0 * speed / scale_squared)
    matrix.add_(p @ matrix)
