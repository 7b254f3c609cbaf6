"""What a plan costs: arithmetic, memory traffic and launches of each operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from nnet.plan import ir
from nnet.plan.derived import is_affine
from nnet.plan.ir import Plan, Value
from nnet.plan.layout import Layout
from nnet.plan.machine import Machine, Precision

FLOAT = 4
"""Bytes of a number."""

Bound = Literal["arithmetic", "memory", "launch"]

VIEWS = (ir.Input, ir.Look, ir.Columns, ir.Carried)


@dataclass(frozen=True)
class Cost:
    """Floating-point operations, bytes read and written, and operations that are launched."""

    flops: int = 0
    bytes: int = 0
    launches: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops, self.bytes + other.bytes, self.launches + other.launches
        )

    @property
    def intensity(self) -> float:
        """Operations for each byte: low means bound by memory, high by arithmetic."""
        return self.flops / self.bytes if self.bytes else 0.0

    def limits(
        self, machine: Machine, precision: Precision = "fp32", share: float = 1.0
    ) -> dict[Bound, float]:
        """The seconds that each of the three takes at least.

        Args:
            share: of the machine's peak that the arithmetic is done at.
        """
        return {
            "arithmetic": self.flops / (share * machine.flops[precision]),
            "memory": self.bytes / machine.bandwidth,
            "launch": self.launches * machine.launch,
        }

    def bound(self, machine: Machine, precision: Precision = "fp32") -> Bound:
        """Which of the three takes longest."""
        limits = self.limits(machine, precision)
        return max(limits, key=lambda name: limits[name])

    def seconds(self, machine: Machine, precision: Precision = "fp32", share: float = 1.0) -> float:
        """The time of one operation, whose arithmetic and memory traffic overlap."""
        return max(self.limits(machine, precision, share).values())


def operation_cost(plan: Plan, layout: Layout, value: Value, batch: int = 1) -> Cost:
    """The cost of one operation under a layout, as one launch; nothing for one that is only a view.

    Every operand is read once and the result written once; the weights are read once for the batch.
    """
    operation = plan.operations[value]
    rows = layout.times[value].count
    if not rows or isinstance(operation, VIEWS):
        return Cost()
    if isinstance(operation, ir.SplicedAffine):
        return _affine_cost(plan, layout, value, operation, batch)
    read = sum(
        piece.rows.count * plan.dim(source)
        for source, piece in zip(operation.operands, layout.reads[value], strict=True)
    )
    flops = weights = 0
    if isinstance(operation, ir.Sum):
        flops = 2 * read
    elif isinstance(operation, ir.Apply | ir.ApplyWindow):
        spec = plan.components[operation.component]
        flops = rows * (2 * spec.linear.size if is_affine(spec) else spec.flops_per_row)
        weights = _weights(spec)
    return Cost(batch * flops, FLOAT * (batch * (read + rows * operation.dim) + weights), 1)


def _weights(spec: Any) -> int:
    """Numbers that a component reads beside its rows."""
    if is_affine(spec):
        return int(spec.linear.size)
    return int(getattr(spec, "num_parameters", 0))


def _affine_cost(
    plan: Plan, layout: Layout, value: Value, operation: ir.SplicedAffine, batch: int
) -> Cost:
    flops = 0
    moved = 0
    count = len(operation.terms)
    for rows, piece in zip(operation.terms, layout.reads[value][:count], strict=True):
        once = piece.rows.index is None and piece.rows.step == 0
        products = 1 if once else piece.rows.count
        flops += 2 * products * rows.dim * operation.dim
        moved += products * rows.dim
    written = layout.times[value].count * operation.dim
    passes = 1 + len(operation.bypass)
    weights = int(plan.components[operation.component].linear.size)
    extra = bool(operation.activation) + bool(operation.scale_offset) + len(operation.bypass)
    return Cost(
        batch * (flops + extra * written), FLOAT * (batch * (moved + passes * written) + weights), 1
    )


def plan_cost(plan: Plan, layout: Layout, batch: int = 1) -> Cost:
    """The cost of all operations together."""
    total = Cost()
    for value in range(len(plan.operations)):
        total += operation_cost(plan, layout, value, batch)
    return total
