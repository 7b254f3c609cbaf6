"""What a plan costs: arithmetic and memory traffic of each operation."""

from __future__ import annotations

from dataclasses import dataclass

from nnet.plan import ir
from nnet.plan.derived import is_affine
from nnet.plan.ir import Plan, Value
from nnet.plan.layout import Layout

FLOAT = 4
"""Bytes of a number."""


@dataclass(frozen=True)
class Cost:
    """Floating-point operations, and bytes read and written, for one sequence."""

    flops: int = 0
    bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes)

    @property
    def intensity(self) -> float:
        """Operations for each byte: low means bound by memory, high by arithmetic."""
        return self.flops / self.bytes if self.bytes else 0.0


def operation_cost(plan: Plan, layout: Layout, value: Value) -> Cost:
    """The cost of one operation under a layout; nothing for one that is only a view."""
    operation = plan.operations[value]
    rows = layout.times[value].count
    if not rows or isinstance(operation, ir.Input | ir.Look | ir.Columns | ir.Carried):
        return Cost()
    written = rows * operation.dim
    if isinstance(operation, ir.SplicedAffine):
        return _affine_cost(plan, layout, value, operation)
    read = sum(
        piece.rows.count * plan.dim(source)
        for source, piece in zip(operation.operands, layout.reads[value], strict=True)
    )
    flops = 0
    if isinstance(operation, ir.Sum):
        flops = 2 * read
    elif isinstance(operation, ir.Apply | ir.ApplyWindow):
        spec = plan.components[operation.component]
        flops = rows * (2 * spec.linear.size if is_affine(spec) else spec.flops_per_row)
    return Cost(flops, FLOAT * (read + written))


def _affine_cost(plan: Plan, layout: Layout, value: Value, operation: ir.SplicedAffine) -> Cost:
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
    weights = plan.components[operation.component].linear.size
    extra = bool(operation.activation) + bool(operation.scale_offset) + len(operation.bypass)
    return Cost(flops + extra * written, FLOAT * (moved + weights + passes * written))


def plan_cost(plan: Plan, layout: Layout) -> Cost:
    """The cost of all operations together."""
    total = Cost()
    for value in range(len(plan.operations)):
        total += operation_cost(plan, layout, value)
    return total
