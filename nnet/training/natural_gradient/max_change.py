"""nnet3's limits of the change of the parameters in a minibatch, and what it reports of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nnet.kernels.recording import also, constants


@dataclass(frozen=True, eq=False)
class MaxChange:
    """The limits of one minibatch. Nothing waits for the device until a report is made.

    Attributes:
        names: of the components.
        limits: their max-change, 0 for none.
        factors: by which each component's limit scales its change, (components,).
        total: 2-norm of the whole change after that, a scalar.
        limit, largest: of the whole change: the option, and what it comes to in this step.
        multipliers: all scales together, (components,).
        applied: whether the change is finite, a scalar.
    """

    names: Sequence[str]
    limits: Sequence[float]
    factors: Tensor
    total: Tensor
    limit: float
    largest: float
    multipliers: Tensor
    applied: Tensor

    @staticmethod
    def of(
        names: Sequence[str],
        norms: Tensor,
        limits: Sequence[float],
        limit: float,
        scale: float,
        max_change_scale: float,
    ) -> MaxChange:
        """The limits for changes that will be scaled by `scale`.

        Args:
            names: of the components.
            norms: 2-norms of their changes, float64 (components,).
            limits: of each component; 0: none.
            limit: of all together; 0: none.
            max_change_scale: multiplies all limits.
        """
        norms = norms * abs(scale)
        own = constants(tuple(limits), torch.float64, norms.device)
        allowed = own * max_change_scale
        factors = torch.where((own > 0) & (norms > allowed), allowed / norms, 1.0)
        total = torch.linalg.vector_norm(factors * norms)
        largest = limit * max_change_scale
        overall = torch.where(total > largest, largest / total, 1.0) if limit else 1.0
        applied = total.isfinite()
        multipliers = torch.where(applied, factors * overall * scale, 0.0).float()
        return MaxChange(names, limits, factors, total, limit, largest, multipliers, applied)

    @property
    def overall(self) -> float:
        """By how much the limit of the whole change scales it."""
        total = self.total.item()
        return self.largest / total if self.limit and total > self.largest else 1.0

    def report(self) -> str:
        """nnet3-train's line about this minibatch; empty if no limit was active."""
        factors = self.factors.tolist()
        if not self.applied:
            return "Infinite parameter change, will not apply."
        parts = []
        if min(factors) < 1.0:
            least = factors.index(min(factors))
            active = sum(factor < 1.0 for factor in factors)
            parts.append(
                f"Per-component max-change active on {active} / {len(factors)} Updatable "
                f"Components. (Smallest factor={factors[least]:.6g} on {self.names[least]} with "
                f"max-change={self.limits[least]:.6g}). "
            )
        if self.overall < 1.0:
            parts.append(
                f"Global max-change factor was {self.overall:.6g} with max-change={self.limit:.6g}."
            )
        return "".join(parts)


class MaxChangeStats:
    """How often limits were active.

    Args:
        names: of the components.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._minibatches = 0
        self._counts: Tensor | None = None

    def add(self, change: MaxChange) -> None:
        """Counts a minibatch; on the device."""
        overall = change.total > change.largest if change.limit else torch.zeros_like(change.total)
        active = torch.cat((change.factors < 1.0, overall.reshape(1).bool())).to(torch.int64)
        active = active * change.applied
        if self._counts is None:
            self._counts = torch.zeros_like(active)
        self._counts += active
        also(self._count)

    def _count(self) -> None:
        self._minibatches += 1

    def report(self) -> list[str]:
        """nnet3-train's lines at the end."""
        if self._counts is None:
            return []
        *components, overall = (self._counts * (100.0 / self._minibatches)).tolist()
        lines = [
            f"For {name}, per-component max-change was enforced {share:.6g} % of the time."
            for name, share in zip(self._names, components, strict=True)
            if share
        ]
        if overall:
            lines.append(f"The global max-change was enforced {overall:.6g} % of the time.")
        return lines

    def state(self) -> dict[str, Any]:
        counts = None if self._counts is None else self._counts.clone()
        return {"minibatches": self._minibatches, "counts": counts}

    def set_state(self, state: dict[str, Any]) -> None:
        self._minibatches, self._counts = int(state["minibatches"]), state["counts"]
