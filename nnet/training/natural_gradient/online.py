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

and, where the parts of a minibatch are on several machines, for a first estimate the whole scatter.
Small matrices stay on the device, in float64 and in batches of equal rank, and nothing waits for
it: what a CPU would branch on is computed both ways.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nnet.kernels.affine.scatter import Projection, ScatterSums
from nnet.kernels.implementation import Implementation
from nnet.kernels.recording import also, may_look
from nnet.training.natural_gradient.power_method import (
    EPSILON,
    ORTHOGONALITY,
    After,
    Before,
    may_be,
    orthonormalizing,
    power_step,
)
from nnet.training.natural_gradient.vectors import Vectors

INITIAL_UPDATES = 10
LARGEST_ETA = 0.9


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
        return min(-math.expm1(-count / self.num_samples_history), LARGEST_ETA)


class OnlineNaturalGradient:
    """The estimate of the scatter of one kind of vectors.

    In each minibatch `observe` is called with all vectors, `settle` once, then `factor` and
    `multiply` as needed, and `finish` once, after `update_estimates` if `updating`.

    Args:
        dim: of the vectors. With 1 there is nothing to do.
        smoothing: settings; the rank is limited to dim - 1.
    """

    summed = False
    """Whether a minibatch is the sum of what several machines observe. Then the first estimate is
    made from all of it; otherwise, as in nnet3, from the first vectors that are observed."""

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
        self.rho = torch.tensor(EPSILON, dtype=torch.float64)
        self._factor: Tensor | None = None

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
        power = vectors.power()
        if self.w is None and self.summed:
            seen = Observation(vectors.count, power, scatter=vectors.scatter())
        else:
            if self.w is None:
                self._begin(vectors, power)
            seen = self._seen(vectors, power, self.updating)
        self._add(seen)

    def projection(self, *, ones: bool = False) -> Projection | None:
        """What is needed of the vectors of the present minibatch, if it is no more than sums.

        Args:
            ones: whether the last element of each vector is 1.
        """
        return None if self.w is None else Projection(self.w, self.updating, ones)

    def take(self, sums: ScatterSums) -> None:
        """Takes vectors into account by the sums that `projection` asked for."""
        weighted = None if sums.weighted is None else sums.weighted.float()
        self._add(Observation(sums.count, sums.power, sums.projected.float(), weighted))

    def _add(self, seen: Observation) -> None:
        if self.observation is None:
            self.observation = seen
        else:
            self.observation.add(seen)

    def _seen(self, vectors: Vectors, power: Tensor, updating: bool) -> Observation:
        assert self.w is not None
        h = vectors.projected(self.w)
        weighted = vectors.weighted(h) if updating else None
        return Observation(vectors.count, power, projected=h.t() @ h, weighted=weighted)

    def _begin(self, vectors: Vectors, power: Tensor) -> None:
        """Makes the first estimate: a few updates with the same vectors."""
        self._set(_initial(self.rank, self.dim, self.smoothing.alpha, power.device))
        for _ in range(_initial_updates(vectors.count, self.rank)):
            self.observation = self._seen(vectors, power, updating=True)
            update_estimates([self])
        self.observation = None

    def settle(self) -> None:
        """The same from the scatter of all vectors, where that was summed up."""
        seen = self.observation
        if seen is None or seen.scatter is None:
            return
        scatter, seen.scatter = seen.scatter, None
        if self.w is None:
            self._set(_initial(self.rank, self.dim, self.smoothing.alpha, scatter.device))
            for _ in range(_initial_updates(seen.count, self.rank)):
                self._look(seen, scatter)
                update_estimates([self])
        self._look(seen, scatter)

    def _look(self, seen: Observation, scatter: Tensor) -> None:
        assert self.w is not None
        seen.weighted = self.w @ scatter
        seen.projected = self.w @ seen.weighted.t()

    def _set(self, w: Tensor, w_w: Tensor | None = None) -> None:
        """Changes W, in its place: a recorded step finds it there again."""
        w_w = w @ w.t() if w_w is None else w_w
        if self.w is None or self.w_w is None:
            self.w, self.w_w = w, w_w
            self.d, self.rho = self.d.to(w.device), self.rho.to(w.device)
        else:
            self.w.copy_(w)
            self.w_w.copy_(w_w)

    def factor(self) -> Tensor:
        """By how much to multiply, so that the vectors' sum of squares stays the same."""
        if self._factor is None:
            find_factors([self])
        assert self._factor is not None
        return self._factor

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
        """Ends the minibatch, if anything was observed in it."""
        if self.observation is not None:
            also(self._count)
        self.observation, self._factor = None, None

    def _count(self) -> None:
        self.minibatches += 1

    def state(self) -> dict[str, Any]:
        """All that later minibatches depend on."""
        return {
            "minibatches": self.minibatches,
            "rho": float(self.rho),
            "d": self.d.cpu().clone(),
            "w": None if self.w is None else self.w.clone(),
            "w_w": None if self.w_w is None else self.w_w.clone(),
        }

    def set_state(self, state: dict[str, Any], device: torch.device) -> None:
        """Goes on from what `state` gave."""
        self.minibatches = int(state["minibatches"])
        self.rho = torch.tensor(float(state["rho"]), dtype=torch.float64)
        self.d = state["d"].to("cpu", torch.float64).clone()
        self.observation, self.w, self.w_w = None, None, None
        if state["w"] is not None:
            self._set(state["w"].to(device).clone(), state["w_w"].to(device).clone())


def _initial(rank: int, dim: int, alpha: float, device: torch.device) -> Tensor:
    """W of the first estimate: rows with a few equal elements each, the first a little larger."""
    columns = torch.arange(dim)
    r = (columns % rank == torch.arange(rank).unsqueeze(1)).float()
    r[torch.arange(rank), torch.arange(rank)] = 1.1
    r /= torch.linalg.vector_norm(r, dim=1, keepdim=True)
    e = 1.0 / (2.0 + (dim + rank) * alpha / dim)
    return (r * e**0.5).to(device)


def _initial_updates(count: int, rank: int) -> int:
    """How often the first vectors are used for an update of the first estimate."""
    return 1 if count <= rank else 3


def find_factors(estimates: Iterable[OnlineNaturalGradient]) -> None:
    """Finds the `factor` of each estimate that observed something, those of equal rank together."""
    by_rank: dict[int, list[OnlineNaturalGradient]] = {}
    for estimate in estimates:
        seen = estimate.observation
        assert seen is not None
        if estimate.rank == 0 or seen.projected is None:
            estimate._factor = torch.ones_like(seen.power)
        else:
            by_rank.setdefault(estimate.rank, []).append(estimate)
    for group in by_rank.values():
        small = torch.stack(_observed(group, "projected")).double()
        power = torch.stack(_observed(group, "power"))
        w_w = torch.stack([e.w_w for e in group if e.w_w is not None]).double()
        traces = small.diagonal(dim1=1, dim2=2).sum(1)
        after = power - 2.0 * traces + (small * w_w).sum((1, 2))
        ratio = power / after.clamp_min(1e-9 * power)
        factors = torch.where(power > 0, ratio, 1.0).sqrt()
        for estimate, factor in zip(group, factors.unbind(), strict=True):
            estimate._factor = factor


@torch.no_grad()
def update_estimates(
    estimates: Iterable[OnlineNaturalGradient], implementation: Implementation = "reference"
) -> None:
    """Updates the estimates with what they observed, those of equal rank together.

    Args:
        implementation: of the eigenvalues of small matrices; with the reference, a GPU is waited
            for.
    """
    by_rank: dict[int, list[OnlineNaturalGradient]] = {}
    for estimate in estimates:
        seen = estimate.observation
        if seen is not None and seen.weighted is not None and estimate.rank:
            by_rank.setdefault(estimate.rank, []).append(estimate)
    for group in by_rank.values():
        _update_group(group, implementation)


def _observed(group: list[OnlineNaturalGradient], name: str) -> list[Any]:
    """An attribute of what each of the estimates observed."""
    return [getattr(estimate.observation, name) for estimate in group]


def _before(group: list[OnlineNaturalGradient]) -> Before:
    counts = _observed(group, "count")
    return Before(
        d=torch.stack([e.d for e in group]),
        rho=torch.stack([e.rho for e in group]),
        h_h=torch.stack(_observed(group, "projected")).double(),
        j_j=torch.stack([j @ j.t() for j in _observed(group, "weighted")]).double(),
        power=torch.stack(_observed(group, "power")),
        counts=tuple(float(count) for count in counts),
        eta=tuple(e.smoothing.eta(count) for e, count in zip(group, counts, strict=True)),
        alpha=tuple(e.smoothing.alpha for e in group),
        dims=tuple(float(e.dim) for e in group),
    )


def _update_group(group: list[OnlineNaturalGradient], implementation: Implementation) -> None:
    """One step of the power method for estimates of one rank."""
    after = power_step(_before(group), implementation)
    w, w_w = _new_w(group, after)
    change = orthonormalizing(w_w, after)
    if change is not None:
        w = [part.to(old.dtype) @ old for part, old in zip(change, w, strict=True)]
        w_w = change @ w_w @ change.mT
    if may_be(~after.usable):  # such a minibatch is not used
        old = torch.stack([e.w_w for e in group if e.w_w is not None]).double()
        w_w = torch.where(after.usable[:, None, None], w_w, old)
        w = [
            torch.where(usable, new, estimate.w)
            for usable, new, estimate in zip(after.usable, w, group, strict=True)
            if estimate.w is not None
        ]
    for i, estimate in enumerate(group):
        estimate.d.copy_(after.d[i])
        estimate.rho.copy_(after.rho[i])
        estimate._set(w[i], w_w[i].float())
    if may_look(w_w):
        _replace_dependent_rows(group, after)


def _new_w(group: list[OnlineNaturalGradient], after: After) -> tuple[list[Tensor], Tensor]:
    """W (rank, dim) of each estimate, and W W' of all, float64 (estimates, rank, rank)."""
    a, weights = after.a.float(), after.weights.float().unsqueeze(2)
    by_dim: dict[int, list[int]] = {}
    for number, estimate in enumerate(group):
        by_dim.setdefault(estimate.dim, []).append(number)
    w: dict[int, Tensor] = {}
    w_w: dict[int, Tensor] = {}
    for numbers in by_dim.values():
        alike = [group[i] for i in numbers]
        before = torch.stack([e.w for e in alike if e.w is not None])
        seen = torch.stack(_observed(alike, "weighted"))
        own_a, own_weights = (torch.stack([t[i] for i in numbers]) for t in (a, weights))
        made = own_a @ torch.addcmul(seen, own_weights, before)
        w.update(zip(numbers, made, strict=True))
        w_w.update(zip(numbers, made @ made.mT, strict=True))
    order = range(len(group))
    return [w[i] for i in order], torch.stack([w_w[i] for i in order]).double()


def _replace_dependent_rows(group: list[OnlineNaturalGradient], after: After) -> None:
    """Puts other rows, orthonormal to the rest, where rows of R nearly depend on others.

    On a device, where nobody knows whether there are any, such rows are left shorter instead; the
    directions that they stand for are then preconditioned less.
    """
    for i in torch.nonzero(after.usable & after.doubtful).flatten().tolist():
        estimate, root_e = group[i], after.root_e[i]
        assert estimate.w is not None
        assert estimate.w_w is not None
        o = estimate.w_w.double() / (root_e[:, None] * root_e[None, :])
        if (o - torch.eye(len(o), dtype=o.dtype)).abs().max() > ORTHOGONALITY:
            q, r = torch.linalg.qr(estimate.w.double().t())
            rows = q.t() * torch.where(r.diagonal() < 0, -1.0, 1.0)[:, None]
            estimate._set((rows * root_e[:, None]).to(estimate.w))
