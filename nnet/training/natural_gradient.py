"""Online natural gradient (Povey, Zhang & Khudanpur, ICLR 2015 workshop, appendix; nnet3's
OnlineNaturalGradient).

The scatter of vectors x of dimension D is modelled as F = R' diag(d) R + rho I, where R (rank, D)
has orthonormal rows, and directions are multiplied by

    P = I - W' W,   W = E^1/2 R,   e_i = 1 / (beta / d_i + 1),

which is the inverse of F, smoothed by alpha and up to a factor. A gradient G = sum_n o_n x_n' of a
matrix is the sum over frames of products of a derivative o and an input x. Instead of multiplying
each vector, which nnet3 does, the sum itself is multiplied from both sides: P_o G P_x is the same.
What else is needed of the vectors are sums over frames too, so they can be added up over parts of
a minibatch and over machines:

    power = sum |x|^2,   H'H = sum W x x' W',   J = sum W x x',

and for a first estimate the whole scatter. Small matrices are handled on the CPU in float64, those
of all components in one transfer and in batches of equal rank; no minibatch but those that update
the estimates waits for the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nnet.training.vectors import Vectors

EPSILON = 1e-10
DELTA = 5e-4
INITIAL_UPDATES = 10
LARGEST_ETA = 0.9
CONDITION = 1e6
ORTHOGONALITY = 1e-3
LARGEST_INVERSE = 100.0


@dataclass(eq=False)
class Observation:
    """Sums over the vectors of a minibatch so far; `scatter` before there is an estimate."""

    count: int
    power: Tensor
    projected: Tensor | None = None  # H'H
    weighted: Tensor | None = None  # J
    scatter: Tensor | None = None

    def add(self, other: Observation) -> None:
        self.count += other.count
        self.power = self.power + other.power
        for name in ("projected", "weighted", "scatter"):
            if getattr(self, name) is not None:
                setattr(self, name, getattr(self, name) + getattr(other, name))

    def tensors(self) -> list[Tensor]:
        """What has to be added up over machines, besides `count`."""
        found = (self.power, self.projected, self.weighted, self.scatter)
        return [tensor for tensor in found if tensor is not None]


@dataclass(frozen=True)
class Smoothing:
    """Settings of an estimate, as its component has them.

    Args:
        rank: of the part of the scatter that is not a multiple of the identity.
        update_period: minibatches between updates, after the first ten.
        num_samples_history: frames over which the estimate averages.
        alpha: how much the estimate is smoothed with the identity.
        num_minibatches_history: if above 0, minibatches over which it averages, instead of frames.
    """

    rank: int
    update_period: int = 4
    num_samples_history: float = 2000.0
    alpha: float = 4.0
    num_minibatches_history: float = 0.0

    def eta(self, count: int) -> float:
        """The weight of `count` new vectors in the average."""
        if self.num_minibatches_history > 0:
            return 1.0 / self.num_minibatches_history
        share = -torch.expm1(torch.tensor(-count / self.num_samples_history, dtype=torch.float64))
        return min(float(share), LARGEST_ETA)


class OnlineNaturalGradient:
    """The estimate of the scatter of one kind of vectors.

    In each minibatch `observe` is called with all vectors, `settle` once, then `factor` and
    `multiply` as needed, and `finish` once, after `update_estimates` if `updating`.

    Args:
        dim: of the vectors. With 1 there is nothing to do.
        smoothing: settings; the rank is limited to dim - 1.
    """

    def __init__(self, dim: int, smoothing: Smoothing) -> None:
        self.dim = dim
        self.smoothing = smoothing
        self.rank = min(smoothing.rank, dim - 1)
        self.minibatches = 0
        self.frozen = False
        self.observation: Observation | None = None
        self.w: Tensor | None = None
        self.w_w: Tensor | None = None
        self.d = torch.full((self.rank,), EPSILON, dtype=torch.float64)
        self.rho = EPSILON

    @property
    def updating(self) -> bool:
        """Whether this minibatch changes the estimate."""
        later = self.minibatches - INITIAL_UPDATES
        on_schedule = later <= 0 or later % self.smoothing.update_period == 0
        return self.rank > 0 and on_schedule and not self.frozen

    @torch.no_grad()
    def observe(self, vectors: Vectors) -> None:
        """Takes vectors of the present minibatch into account."""
        if self.rank == 0:
            return
        seen = Observation(vectors.count, vectors.power())
        if self.w is None:
            seen.scatter = vectors.scatter()
        else:
            h = vectors.projected(self.w)
            seen.projected = h.t() @ h
            if self.updating:
                seen.weighted = vectors.weighted(h)
        if self.observation is None:
            self.observation = seen
        else:
            self.observation.add(seen)

    def settle(self) -> None:
        """Makes the first estimate, if there is none yet: a few updates with the same vectors."""
        seen = self.observation
        if seen is None or seen.scatter is None:
            return
        scatter, seen.scatter = seen.scatter, None
        if self.w is None:
            self._set(_initial(self.rank, self.dim, self.smoothing.alpha, scatter.device))
            for _ in range(1 if seen.count <= self.rank else 3):
                self._look(seen, scatter)
                update_estimates([self])
        self._look(seen, scatter)

    def _look(self, seen: Observation, scatter: Tensor) -> None:
        assert self.w is not None
        seen.weighted = self.w @ scatter
        seen.projected = self.w @ seen.weighted.t()

    def _set(self, w: Tensor) -> None:
        self.w, self.w_w = w, w @ w.t()

    def factor(self) -> Tensor:
        """By how much to multiply, so that the vectors' sum of squares stays the same."""
        seen = self.observation
        assert seen is not None
        if self.rank == 0 or seen.projected is None or self.w_w is None:
            return torch.ones_like(seen.power)
        small = seen.projected.double()
        after = seen.power - 2.0 * small.trace() + (small * self.w_w.double()).sum()
        ratio = seen.power / after.clamp_min(1e-9 * seen.power)
        return torch.where(seen.power > 0, ratio, 1.0).sqrt()

    def multiply(self, matrix: Tensor, last: Tensor | None = None) -> None:
        """Multiplies the rows of (matrix, last) by P, in place.

        Args:
            matrix: (rows, dim), or (rows, dim - 1) if there is `last`.
            last: (rows,), the last column.
        """
        if self.rank == 0 or self.w is None:
            return
        w = self.w
        if last is None:
            matrix.addmm_(matrix @ w.t(), w, alpha=-1.0)
            return
        body, end = w[:, :-1], w[:, -1]
        h = torch.addmm(torch.outer(last, end), matrix, body.t())
        matrix.addmm_(h, body, alpha=-1.0)
        last.addmv_(h, end, alpha=-1.0)

    def finish(self) -> None:
        """Ends the minibatch."""
        if self.rank:
            self.minibatches += 1
        self.observation = None

    def state(self) -> dict[str, Any]:
        """All that later minibatches depend on."""
        return {"minibatches": self.minibatches, "rho": self.rho, "d": self.d, "w": self.w}

    def set_state(self, state: dict[str, Any], device: torch.device) -> None:
        """Goes on from what `state` gave."""
        self.minibatches, self.rho = int(state["minibatches"]), float(state["rho"])
        self.d = state["d"].to("cpu", torch.float64).clone()
        self.observation, self.w, self.w_w = None, None, None
        if state["w"] is not None:
            self._set(state["w"].to(device).clone())


def _initial(rank: int, dim: int, alpha: float, device: torch.device) -> Tensor:
    """W of the first estimate: rows with a few equal elements each, the first a little larger."""
    columns = torch.arange(dim)
    r = (columns % rank == torch.arange(rank).unsqueeze(1)).float()
    r[torch.arange(rank), torch.arange(rank)] = 1.1
    r /= torch.linalg.vector_norm(r, dim=1, keepdim=True)
    e = 1.0 / (2.0 + (dim + rank) * alpha / dim)
    return (r * e**0.5).to(device)


@torch.no_grad()
def update_estimates(estimates: Iterable[OnlineNaturalGradient]) -> None:
    """Updates the estimates with what they observed, those of equal rank together."""
    by_rank: dict[int, list[OnlineNaturalGradient]] = {}
    for estimate in estimates:
        seen = estimate.observation
        if seen is not None and seen.weighted is not None and estimate.rank:
            by_rank.setdefault(estimate.rank, []).append(estimate)
    groups = list(by_rank.values())
    small = _to_cpu([_small_matrices(group) for group in groups])
    for group, (h_h, j_j, power) in zip(groups, small, strict=True):
        finite = (j_j + h_h).isfinite().all(-1).all(-1) & power.isfinite()
        if not finite.all():  # such a minibatch is not used
            group = [estimate for estimate, sound in zip(group, finite, strict=True) if sound]
            h_h, j_j, power = h_h[finite], j_j[finite], power[finite]
        if group:
            _update_group(group, h_h, j_j, power)


def _small_matrices(group: list[OnlineNaturalGradient]) -> tuple[Tensor, Tensor, Tensor]:
    """H'H and JJ' (estimates, rank, rank), and power (estimates,) on the device."""
    seen = [estimate.observation for estimate in group]
    h_h, j_j, powers = [], [], []
    for observation in seen:
        assert observation is not None
        assert observation.projected is not None
        assert observation.weighted is not None
        h_h.append(observation.projected)
        j_j.append(observation.weighted @ observation.weighted.t())
        powers.append(observation.power)
    return torch.stack(h_h).double(), torch.stack(j_j).double(), torch.stack(powers)


def _to_cpu(
    groups: list[tuple[Tensor, Tensor, Tensor]],
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """All tensors in one transfer."""
    tensors = [tensor for group in groups for tensor in group]
    if not tensors or tensors[0].device.type == "cpu":
        return groups
    flat = torch.cat([tensor.flatten() for tensor in tensors]).cpu()
    parts = flat.split([tensor.numel() for tensor in tensors])
    there = [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
    return [(there[i], there[i + 1], there[i + 2]) for i in range(0, len(there), 3)]


def _update_group(
    group: list[OnlineNaturalGradient], h_h: Tensor, j_j: Tensor, power: Tensor
) -> None:
    """One step of the power method for estimates of one rank; the names are the paper's."""
    counts = [e.observation.count for e in group if e.observation is not None]
    eta = _column([e.smoothing.eta(n) for e, n in zip(group, counts, strict=True)])
    alpha = _column([e.smoothing.alpha for e in group])
    dim = _column([e.dim for e in group])
    rho = _column([e.rho for e in group])
    d = torch.stack([e.d for e in group])  # [B, R]
    rank = d.shape[1]
    per_vector = eta / _column(counts)
    kept = 1.0 - eta
    root_e = _root_e(d, rho, alpha, dim)
    z = _z(h_h, j_j, per_vector, kept, d + rho, 1.0 / root_e)
    scale = z.diagonal(dim1=1, dim2=2).sum(1).clamp_min(1.0)[:, None]
    c, u = torch.linalg.eigh(z / scale[:, None])
    c, u = c.flip(1) * scale, u.flip(2)
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
    for i, estimate in enumerate(group):
        _set_w(estimate, a[i], weights[i])
        if doubtful[i]:
            _reorthogonalize(estimate, new_root_e[i])
        estimate.d, estimate.rho = new_d[i].clone(), float(new_rho[i])


def _column(numbers: Sequence[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64).unsqueeze(1)


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


def _set_w(estimate: OnlineNaturalGradient, a: Tensor, weights: Tensor) -> None:
    seen = estimate.observation
    assert seen is not None
    assert seen.weighted is not None
    assert estimate.w is not None
    device = estimate.w.device
    b = torch.addcmul(seen.weighted, weights.float().to(device).unsqueeze(1), estimate.w)
    estimate._set(a.float().to(device) @ b)


def _reorthogonalize(estimate: OnlineNaturalGradient, root_e: Tensor) -> None:
    """Makes the rows of R orthonormal again; the first rows change least."""
    assert estimate.w is not None
    assert estimate.w_w is not None
    o = estimate.w_w.double().cpu() / (root_e[:, None] * root_e[None, :])
    if (o - torch.eye(len(o), dtype=o.dtype)).abs().max() <= ORTHOGONALITY:
        return
    c, info = torch.linalg.cholesky_ex(o)
    if not info:
        inverse = torch.linalg.solve_triangular(c, torch.eye(len(c), dtype=c.dtype), upper=False)
        if inverse.max() < LARGEST_INVERSE:
            change = inverse * root_e[:, None] / root_e[None, :]
            estimate._set(change.float().to(estimate.w.device) @ estimate.w)
            return
    q, r = torch.linalg.qr(estimate.w.double().t())
    rows = q.t() * torch.where(r.diagonal() < 0, -1.0, 1.0)[:, None]
    estimate._set((rows * root_e.to(rows.device)[:, None]).to(estimate.w))
