"""One step of the power method by which natural gradient's estimates follow their vectors.

The small matrices of estimates of one rank, float64 on their device; the names are those of the
paper (see `nnet.training.natural_gradient.online`). Nothing waits for the device: what a CPU would
branch on is computed both ways.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from nnet.kernels.implementation import Implementation
from nnet.kernels.recording import constants, may_look
from nnet.kernels.update.symmetric_eigen import symmetric_eigen

EPSILON = 1e-10
DELTA = 5e-4
CONDITION = 1e6
ORTHOGONALITY = 1e-3
LARGEST_INVERSE = 100.0
SHIFT = 1e-4
"""Added to the diagonal of a product of dependent rows, relative to 1, before it is factored."""


class Before(NamedTuple):
    """Estimates of one rank, and what they observed.

    Attributes:
        d, rho: (estimates, rank), (estimates,).
        h_h, j_j: H'H and J J', (estimates, rank, rank).
        power: sums of squares, (estimates,).
        counts: of vectors; `eta`, their weights in the averages; `alpha`, smoothing; `dims`.
    """

    d: Tensor
    rho: Tensor
    h_h: Tensor
    j_j: Tensor
    power: Tensor
    counts: tuple[float, ...]
    eta: tuple[float, ...]
    alpha: tuple[float, ...]
    dims: tuple[float, ...]


class After(NamedTuple):
    """New estimates of one rank.

    Attributes:
        a, weights: the new W is a (J + weights W); (estimates, rank, rank), (estimates, rank).
        d, rho, root_e: (estimates, rank), (estimates,), (estimates, rank).
        usable: whether the minibatch was finite, (estimates,).
        doubtful: whether the rows of R may not be orthonormal any more, (estimates,).
    """

    a: Tensor
    weights: Tensor
    d: Tensor
    rho: Tensor
    root_e: Tensor
    usable: Tensor
    doubtful: Tensor


def power_step(before: Before, implementation: Implementation) -> After:
    """The estimates after a minibatch, but for W.

    Args:
        implementation: of the eigenvalues; with the reference, a GPU is waited for.
    """
    d, h_h, j_j, power = before.d, before.h_h, before.j_j, before.power
    usable = (j_j + h_h).isfinite().all(-1).all(-1) & power.isfinite()
    column = functools.partial(_column, device=power.device)  # the same in most minibatches
    eta, alpha, dim = column(before.eta), column(before.alpha), column(before.dims)
    rho = before.rho[:, None]
    rank = d.shape[1]
    per_vector = eta / column(before.counts)
    kept = 1.0 - eta
    root_e = _root_e(d, rho, alpha, dim)
    z = _z(h_h, j_j, per_vector, kept, d + rho, 1.0 / root_e)
    z = torch.where(usable[:, None, None], z, torch.eye(rank, dtype=z.dtype, device=z.device))
    scale = z.diagonal(dim1=1, dim2=2).sum(1).clamp_min(1.0)[:, None]
    c, u = symmetric_eigen(z / scale[:, None], implementation=implementation)
    c = c * scale
    floor = (rho * kept).square()
    doubtful = (c[:, 0] > CONDITION * c[:, -1]) | (c < floor).any(1)
    root_c = torch.maximum(c, floor).sqrt()
    total = per_vector * power[:, None] + kept * (dim * rho + d.sum(1, keepdim=True))
    new_rho = (total - root_c.sum(1, keepdim=True)) / (dim - rank)
    least = (DELTA * root_c[:, :1]).clamp_min(EPSILON)
    new_d = torch.maximum(root_c - new_rho, least)
    new_rho = torch.maximum(new_rho, least)
    new_root_e = _root_e(new_d, new_rho, alpha, dim)
    a = u.mT * (per_vector * new_root_e / root_c)[:, :, None] / root_e[:, None, :]
    weights = kept / per_vector * (d + rho)
    new_d = torch.where(usable[:, None], new_d, d)
    new_rho = torch.where(usable, new_rho[:, 0], before.rho)
    return After(a, weights, new_d, new_rho, new_root_e, usable, doubtful)


def _column(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    """Numbers on the device, (count, 1)."""
    return constants(numbers, torch.float64, device).unsqueeze(1)


def _root_e(d: Tensor, rho: Tensor, alpha: Tensor, dim: Tensor) -> Tensor:
    """The square root of E."""
    beta = rho * (1.0 + alpha) + alpha * d.sum(1, keepdim=True) / dim
    return (1.0 / (beta / d + 1.0)).sqrt()


def _z(
    h_h: Tensor,
    j_j: Tensor,
    per_vector: Tensor,
    kept: Tensor,
    d_rho: Tensor,
    inverse_root_e: Tensor,
) -> Tensor:
    """Y Y', where Y = R times the new smoothed scatter."""
    outer = inverse_root_e[:, :, None] * inverse_root_e[:, None, :]
    share, rest = per_vector[:, :, None], kept[:, :, None]
    mixed = outer * 0.5 * (h_h + h_h.mT) * (d_rho[:, :, None] + d_rho[:, None, :])
    z = share.square() * outer * 0.5 * (j_j + j_j.mT) + share * rest * mixed
    return z + torch.diag_embed((kept * d_rho).square())


def may_be(mask: Tensor) -> bool:
    """Whether any element is true; True where nobody may look."""
    return not may_look(mask) or bool(mask.any())


def orthonormalizing(w_w: Tensor, after: After) -> Tensor | None:
    """By what W is to be multiplied so that the rows of R are orthonormal again, float64
    (estimates, rank, rank); the first rows change least. None where nothing is to be done."""
    identity = torch.eye(w_w.shape[1], dtype=w_w.dtype, device=w_w.device)
    o = w_w / (after.root_e[:, :, None] * after.root_e[:, None, :])
    wrong = after.usable & after.doubtful
    wrong = wrong & ((o - identity).abs().amax((1, 2)) > ORTHOGONALITY)
    if not may_be(wrong):
        return None
    inverse, independent = _inverse_factor(torch.where(wrong[:, None, None], o, identity))
    if not may_look(w_w):
        shifted, _ = _inverse_factor(o + SHIFT * identity)
        inverse = torch.where(independent[:, None, None], inverse, shifted)
        independent = torch.ones_like(independent)
    change = inverse * after.root_e[:, :, None] / after.root_e[:, None, :]
    return torch.where((wrong & independent)[:, None, None], change, identity)


def _inverse_factor(o: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse Cholesky factors of o (batch, n, n), and whether they are sound, (batch,)."""
    c, info = torch.linalg.cholesky_ex(o)
    identity = torch.eye(o.shape[1], dtype=o.dtype, device=o.device)
    sound = info == 0
    c = torch.where(sound[:, None, None], c, identity)
    inverse = torch.linalg.solve_triangular(c, identity.expand_as(c), upper=False)
    return inverse, sound & (inverse.amax((1, 2)) < LARGEST_INVERSE)
