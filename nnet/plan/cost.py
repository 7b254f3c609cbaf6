"""What a plan costs: arithmetic, memory traffic and launches of each operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from nnet.plan.derived import is_affine
from nnet.plan.ir import Operation, Plan, Value
from nnet.plan.layout import Layout
from nnet.plan.machine import Machine, Precision

FLOAT = 4
"""Bytes of a number."""

Bound = Literal["arithmetic", "memory", "launch"]


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
    operation, count = plan.operations[value], layout.times[value].count
    if not count or is_view(operation):
        return Cost()
    spec = plan.components.get(operation.component_applied)
    matrix = spec is not None and is_affine(spec)
    written = count * operation.dim
    flops, moved = operation.elementwise() * written, written
    for rows, piece in zip(plan.reads(value), layout.reads[value], strict=True):
        once = rows.into is None and piece.rows.index is None and piece.rows.step == 0
        read = (1 if once else piece.rows.count) * rows.dim
        moved += read
        if matrix and rows.into is None:
            flops += 2 * read * operation.dim
    if spec is not None and not matrix:
        flops += count * spec.flops_per_row
    weights = 0 if spec is None else _weights(spec)
    return Cost(batch * flops, FLOAT * (batch * moved + weights), 1)


def is_view(operation: Operation) -> bool:
    """Whether nothing is computed: the rows are those of an input or of another value."""
    return operation.looks and operation.whole


def _weights(spec: Any) -> int:
    """Numbers that a component reads beside its rows."""
    if is_affine(spec):
        return int(spec.linear.size)
    return int(getattr(spec, "num_parameters", 0))


def plan_cost(plan: Plan, layout: Layout, batch: int = 1) -> Cost:
    """The cost of all operations together."""
    total = Cost()
    for value in range(len(plan.operations)):
        total += operation_cost(plan, layout, value, batch)
    return total
