"""Biases become columns: where rows are put side by side anyway, a 1 is put beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nnet.passes.base import keep
from nnet.plan import ir
from nnet.plan.builder import Builder
from nnet.plan.derived import FoldedAffine
from nnet.plan.ir import Plan, Rows, SplicedAffine, Value
from nnet.plan.reach import looping
from nnet.plan.times import At


@dataclass(frozen=True)
class BiasColumns:
    """W x + b = [W b] [x; 1], which saves one pass over the result.

    Done where one term changes in time (others, such as an i-vector, then join the bias): if that
    is an append that nothing else reads, or if the result is at least `wider` times as wide as
    the term, so that copying the term costs less.
    """

    name: ClassVar[str] = "bias-columns"

    wider: int = 3

    def run(self, plan: Plan) -> Plan:
        builder = Builder(plan.components)
        uses = plan.uses()
        names: dict[Value, Value] = {}
        in_loop = looping(plan)
        for value, operation in enumerate(plan.operations):
            renamed = operation.renamed(names)
            if isinstance(renamed, SplicedAffine) and value not in in_loop:
                own = uses[operation.operands[0]] == 1
                renamed = self._with_column(renamed, own, builder)
            names[value] = keep(renamed, builder)
        return builder.plan(plan.results, names)

    def _with_column(self, operation: SplicedAffine, own: bool, builder: Builder) -> SplicedAffine:
        rows, *others = operation.terms
        spec = builder.components[operation.component]
        source = builder.operations[rows.value]
        appended = own and isinstance(source, ir.Append)
        plain = rows == Rows(rows.value, dim=source.dim)
        if not (plain and (appended or operation.dim >= self.wider * rows.dim)):
            return operation
        if not all(other.maps and isinstance(other.maps[-1], At) for other in others):
            return operation
        if not isinstance(spec, FoldedAffine) or spec.bias is None:
            return operation
        one = builder.emit(ir.Constant(number=1.0, dim=1, origin=operation.origin))
        wider = builder.append([rows.value, one], operation.origin)
        name = f"{operation.component}|1"
        builder.components[name] = FoldedAffine(
            np.insert(spec.linear, rows.dim, spec.bias, axis=1), None
        )
        terms = (Rows(wider, dim=rows.dim + 1), *others)
        return replace(operation, component=name, terms=terms, ones=True)
