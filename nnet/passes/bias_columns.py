"""Biases become columns: where rows are put side by side anyway, a 1 is put beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nnet.passes.base import keep
from nnet.plan import ir
from nnet.plan.derived import FoldedAffine
from nnet.plan.ir import Builder, Plan, Rows, SplicedAffine, Value


@dataclass(frozen=True)
class BiasColumns:
    """W x + b = [W b] [x; 1], which saves one pass over the result.

    Done for affine operations whose only term is an append that nothing else reads.
    """

    name: ClassVar[str] = "bias-columns"

    def run(self, plan: Plan) -> Plan:
        builder = Builder(plan.components)
        uses = plan.uses()
        names: dict[Value, Value] = {}
        for value, operation in enumerate(plan.operations):
            renamed = operation.renamed(names)
            if isinstance(operation, SplicedAffine) and uses[operation.terms[0].value] == 1:
                assert isinstance(renamed, SplicedAffine)
                renamed = _with_column(renamed, builder)
            names[value] = keep(renamed, builder)
        return builder.plan(tuple((name, names[value]) for name, value in plan.results))


def _with_column(operation: SplicedAffine, builder: Builder) -> SplicedAffine:
    rows = operation.terms[0]
    spec = builder.components[operation.component]
    appended = builder.operations[rows.value]
    fits = len(operation.terms) == 1 and rows == Rows(rows.value, dim=appended.dim)
    if not (fits and isinstance(appended, ir.Append) and isinstance(spec, FoldedAffine)):
        return operation
    if spec.bias is None:
        return operation
    one = builder.emit(ir.Constant(number=1.0, dim=1, origin=operation.origin))
    wider = builder.append([*(s.value for s in appended.sources), one], operation.origin)
    name = f"{operation.component}|1"
    linear = np.concatenate((spec.linear, spec.bias[:, None]), axis=1)
    builder.components[name] = FoldedAffine(np.ascontiguousarray(linear), None)
    term = Rows(wider, dim=appended.dim + 1)
    return replace(operation, component=name, terms=(term,))
