"""Fusion for training: an affine transform, its rectified linear unit, batch-norm and bypass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from nnet.passes.base import keep
from nnet.passes.splice import seen_through
from nnet.plan import ir
from nnet.plan.builder import Builder
from nnet.plan.ir import Operation, Plan, Source, Value
from nnet.plan.reach import looping


@dataclass(frozen=True)
class FuseBatchNorm:
    """ReLU -> batch-norm -> bypass sum, and the affine transform before them.

    Each step is joined if it is there and nothing else reads what is before it. Batch-norm that
    always uses its stored statistics (test-mode) is left as it is, and so are loops.

    Args:
        affine: whether the affine transform is joined too.
    """

    name: ClassVar[str] = "fuse-batch-norm"

    affine: bool = True

    def run(self, plan: Plan) -> Plan:
        builder = Builder(plan.components)
        uses, in_loop = plan.uses(), looping(plan)
        names: dict[Value, Value] = {}
        read_once: dict[Value, bool] = {}
        for value, operation in enumerate(plan.operations):
            renamed = operation.renamed(names)
            made = renamed if value in in_loop else self._joined(renamed, read_once, builder)
            names[value] = keep(made, builder)
            single = uses[value] == 1 and value not in in_loop
            read_once[names[value]] = single and read_once.get(names[value], True)
        return builder.plan(plan.results, names)

    def _joined(
        self, operation: Operation, read_once: dict[Value, bool], builder: Builder
    ) -> Operation:
        """The operation, joined to what is before it."""
        match operation:
            case ir.Apply(component=component, source=source) if read_once[source.value]:
                if _is_batch_norm(builder.components[component]):
                    return self._normalized(operation, read_once, builder)
            case ir.Sum(sources=(first, second), scales=(scale, other)):
                if scale == 1.0 and read_once[first.value]:
                    joined = _with_bypass(operation, first, second, other, builder)
                    if joined is not operation:
                        return joined
                if other == 1.0 and read_once[second.value]:
                    return _with_bypass(operation, second, first, scale, builder)
        return operation

    def _normalized(
        self, operation: ir.Apply, read_once: dict[Value, bool], builder: Builder
    ) -> Operation:
        unit = builder.operations[operation.source.value]
        if not isinstance(unit, ir.Apply):
            return operation
        if builder.components[unit.component].type_name != "RectifiedLinearComponent":
            return operation
        before = builder.operations[unit.source.value]
        if self.affine and read_once[unit.source.value] and isinstance(before, ir.SplicedAffine):
            return ir.AffineBatchNorm(
                component=before.component,
                terms=tuple(t for rows in before.terms for t in _apart(rows, builder)),
                relu=unit.component,
                batch_norm=operation.component,
                dim=operation.dim,
                origin=operation.origin,
            )
        return ir.ReluBatchNorm(
            component=operation.component,
            source=unit.source,
            relu=unit.component,
            dim=operation.dim,
            origin=operation.origin,
        )


def _is_batch_norm(spec: object) -> bool:
    named = getattr(spec, "type_name", "") == "BatchNormComponent"
    return named and not getattr(spec, "test_mode", False)


def _apart(rows: ir.Rows, builder: Builder) -> list[ir.Rows]:
    """The parts of rows that were put side by side for the transform: it does so block by block."""
    made = builder.operations[rows.value]
    if not isinstance(made, ir.Append) or rows != ir.Rows(rows.value, dim=made.dim):
        return [rows]
    return [seen_through(builder.operations, part.value) for part in made.sources]


def _with_bypass(
    operation: ir.Sum, made: Source, beside: Source, scale: float, builder: Builder
) -> Operation:
    """The sum of what an operation made and `scale` times a bypass, joined to it if it can be."""
    before = builder.operations[made.value]
    if not isinstance(before, ir.AffineBatchNorm | ir.ReluBatchNorm):
        return operation
    if made == beside or before.bypass:
        return operation
    if isinstance(before, ir.AffineBatchNorm):
        rows = seen_through(builder.operations, beside.value)
        bypass = (replace(rows, scale=rows.scale * scale),)
        return replace(before, bypass=bypass, origin=operation.origin)
    return replace(before, bypass=(beside,), bypass_scale=scale, origin=operation.origin)
