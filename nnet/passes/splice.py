"""Splicing: an affine component reads the rows that it needs, instead of rows put side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import ClassVar

from nnet.passes.base import keep
from nnet.plan import ir
from nnet.plan.builder import Builder
from nnet.plan.derived import is_affine
from nnet.plan.ir import Operation, Plan, Rows, Value
from nnet.plan.reach import looping
from nnet.plan.times import At, compose


@dataclass(frozen=True)
class Splice:
    """Affine(Append(Offset(x, -1), x, ...)) becomes one operation on ranges of rows of x.

    Reading parts where they lie costs one more pass over the result for each part but the first;
    putting them side by side costs a copy of them. Whichever is smaller is chosen. Parts that are
    the same at all times (an i-vector) are always read directly: their product is computed once a
    sequence. In a loop all are: what does not come from the loop is multiplied before it. With
    `direct` all are everywhere: a kernel that reads all parts in one pass copies nothing.
    """

    name: ClassVar[str] = "splice"

    direct: bool = False

    def run(self, plan: Plan) -> Plan:
        builder = Builder(plan.components)
        names: dict[Value, Value] = {}
        in_loop = looping(plan)
        for value, operation in enumerate(plan.operations):
            renamed = operation.renamed(names)
            if isinstance(renamed, ir.Apply) and is_affine(plan.components[renamed.component]):
                source = renamed.source.value
                if self.direct or value in in_loop:
                    parts = [seen_through(builder.operations, p) for p in _parts(builder, source)]
                else:
                    parts = _terms(builder, source, renamed.dim, renamed.origin)
                names[value] = builder.emit(
                    ir.SplicedAffine(
                        component=renamed.component,
                        terms=tuple(parts),
                        dim=renamed.dim,
                        origin=renamed.origin,
                    )
                )
            else:
                names[value] = keep(renamed, builder)
        return builder.plan(plan.results, names)


def _parts(builder: Builder, value: Value) -> list[Value]:
    """What is put side by side to make a value."""
    operation = builder.operations[value]
    if isinstance(operation, ir.Append):
        return [source.value for source in operation.sources]
    return [value]


def _terms(builder: Builder, value: Value, dim: int, origin: str) -> list[Rows]:
    """What an affine component with `dim` columns of output reads, in column order."""
    terms: list[Rows] = []
    parts = _parts(builder, value)
    for constant, group in groupby(parts, lambda part: _constant_in_time(builder, part)):
        members = list(group)
        columns = sum(builder.operations[part].dim for part in members)
        if not constant and columns < (len(members) - 1) * dim:
            members = [builder.append(members, origin)]
        terms.extend(seen_through(builder.operations, part) for part in members)
    return terms


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
