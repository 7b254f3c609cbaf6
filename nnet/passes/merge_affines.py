"""Two affine components in a row become one, where that is less work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nnet.passes.base import keep
from nnet.plan import ir
from nnet.plan.builder import Builder
from nnet.plan.derived import FoldedAffine
from nnet.plan.ir import Plan, Value


@dataclass(frozen=True)
class MergeAffines:
    """affine -> affine, with nothing in between and no other reader (an LDA-like transform).

    Merged only if the product has no more elements than the two together: the bottleneck of a
    factored layer stays.
    """

    name: ClassVar[str] = "merge-affines"

    def run(self, plan: Plan) -> Plan:
        builder = Builder(plan.components)
        uses = plan.uses()
        names: dict[Value, Value] = {}
        for value, operation in enumerate(plan.operations):
            renamed = operation.renamed(names)
            if isinstance(operation, ir.Apply) and uses[operation.source.value] == 1:
                renamed = _merged(renamed, builder)
            names[value] = keep(renamed, builder)
        return builder.plan(plan.results, names)


def _merged(operation: ir.Operation, builder: Builder) -> ir.Operation:
    assert isinstance(operation, ir.Apply)
    before = builder.operations[operation.source.value]
    if not isinstance(before, ir.Apply):
        return operation
    first = builder.components[before.component]
    second = builder.components[operation.component]
    if not (isinstance(first, FoldedAffine) and isinstance(second, FoldedAffine)):
        return operation
    if second.output_dim * first.input_dim > first.linear.size + second.linear.size:
        return operation
    name = f"{before.component}*{operation.component}"
    builder.components[name] = _product(first, second)
    return replace(operation, component=name, source=before.source)


def _product(first: FoldedAffine, second: FoldedAffine) -> FoldedAffine:
    wide = second.linear.astype(np.float64)
    bias = np.zeros(second.output_dim) if second.bias is None else second.bias.astype(np.float64)
    if first.bias is not None:
        bias = bias + wide @ first.bias
    linear = wide @ first.linear.astype(np.float64)
    return FoldedAffine(linear.astype(np.float32), bias.astype(np.float32))
