"""Fusion: what follows an affine transform joins it, so that its rows are touched once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from nnet.components.nonlinearity import Elementwise
from nnet.passes.base import keep
from nnet.passes.splice import seen_through
from nnet.plan import ir
from nnet.plan.builder import Builder
from nnet.plan.derived import ScaleOffset
from nnet.plan.ir import Operation, Plan, Source, SplicedAffine, Value


@dataclass(frozen=True)
class Fuse:
    """affine -> nonlinearity -> scale and offset -> bypass sum, each step if it is there."""

    name: ClassVar[str] = "fuse"

    def run(self, plan: Plan) -> Plan:
        builder = Builder(plan.components)
        uses = plan.uses()
        names: dict[Value, Value] = {}
        for value, operation in enumerate(plan.operations):
            single = [uses[v] == 1 for v in operation.operands]
            names[value] = _fused(operation.renamed(names), single, builder)
        return builder.plan(plan.results, names)


def _fused(operation: Operation, single: list[bool], builder: Builder) -> Value:
    """Emits `operation`, joined to the affine before it if nothing else reads that."""
    match operation:
        case ir.Apply(component=component, source=source, origin=origin) if single[0]:
            before = builder.operations[source.value]
            if isinstance(before, SplicedAffine) and not before.bypass:
                joined = _joined(before, component, builder.components[component])
                if joined is not None:
                    return builder.emit(replace(joined, origin=origin))
        case ir.Sum(sources=sources, scales=scales):
            for position, source in enumerate(sources):
                before = builder.operations[source.value]
                fits = single[position] and scales[position] == 1.0 and len(sources) > 1
                if fits and isinstance(before, SplicedAffine) and not before.bypass:
                    return builder.emit(_with_bypass(operation, position, before, builder))
    return keep(operation, builder)


def _joined(before: SplicedAffine, component: str, spec: object) -> SplicedAffine | None:
    """`before` with the component after it, if it has a place for it."""
    if isinstance(spec, ScaleOffset) and not before.scale_offset:
        return replace(before, scale_offset=component)
    if isinstance(spec, Elementwise) and not (before.activation or before.scale_offset):
        return replace(before, activation=spec.function)
    return None


def _with_bypass(
    operation: ir.Sum, position: int, before: SplicedAffine, builder: Builder
) -> SplicedAffine:
    def rows(source: Source, scale: float) -> ir.Rows:
        seen = seen_through(builder.operations, source.value)
        return replace(seen, scale=seen.scale * scale)

    pairs = list(zip(operation.sources, operation.scales, strict=True))
    others = pairs[:position] + pairs[position + 1 :]
    bypass = tuple(rows(source, scale) for source, scale in others)
    return replace(before, bypass=bypass, origin=operation.origin)
