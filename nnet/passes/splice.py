"""Splicing: an affine component reads the rows that it needs, instead of rows put side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import ClassVar

from nnet.passes.base import keep, rewrite
from nnet.plan import ir
from nnet.plan.ir import Builder, Operation, Plan, Rows, Value
from nnet.plan.times import At, compose


@dataclass(frozen=True)
class Splice:
    """Affine(Append(Offset(x, -1), x, ...)) becomes one operation on ranges of rows of x.

    Reading parts where they lie costs one more pass over the result for each part but the first;
    putting them side by side costs a copy of them. Whichever is smaller is chosen. Parts that are
    the same at all times (an i-vector) are always read directly: their product is computed once a
    sequence.
    """

    name: ClassVar[str] = "splice"

    def run(self, plan: Plan) -> Plan:
        return rewrite(plan, self._visit)

    def _visit(self, operation: Operation, builder: Builder) -> Value:
        match operation:
            case ir.Apply(component=component, source=source, dim=dim, origin=origin):
                if hasattr(builder.components[component], "linear"):
                    terms = _terms(builder, source.value, dim, origin)
                    return builder.emit(
                        ir.SplicedAffine(component=component, terms=terms, dim=dim, origin=origin)
                    )
        return keep(operation, builder)


def _terms(builder: Builder, value: Value, dim: int, origin: str) -> tuple[Rows, ...]:
    """What an affine component with `dim` columns of output reads, in column order."""
    operation = builder.operations[value]
    parts = [value]
    if isinstance(operation, ir.Append):
        parts = [source.value for source in operation.sources]
    terms: list[Rows] = []
    for constant, group in groupby(parts, lambda part: _constant_in_time(builder, part)):
        members = list(group)
        columns = sum(builder.operations[part].dim for part in members)
        if not constant and columns < (len(members) - 1) * dim:
            members = [builder.append(members, origin)]
        terms.extend(seen_through(builder.operations, part) for part in members)
    return tuple(terms)


def seen_through(operations: list[Operation], value: Value) -> Rows:
    """`value` as rows of what lies behind its looks, column ranges and scales."""
    rows = Rows(value, dim=operations[value].dim)
    while True:
        match operations[rows.value]:
            case ir.Look(source=source, maps=maps):
                rows = replace(rows, value=source.value, maps=compose(rows.maps, maps))
            case ir.Columns(source=source, offset=offset):
                rows = replace(rows, value=source.value, offset=rows.offset + offset)
            case ir.Sum(sources=(source,), scales=(scale,)):
                rows = replace(rows, value=source.value, scale=rows.scale * scale)
            case _:
                return rows


def _constant_in_time(builder: Builder, value: Value) -> bool:
    maps = seen_through(builder.operations, value).maps
    return bool(maps) and isinstance(maps[-1], At)
