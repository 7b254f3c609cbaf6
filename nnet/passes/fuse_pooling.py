"""Statistics are pooled from the frames themselves, not from the sums of each period of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from nnet.components.pooling import StatisticsExtraction, StatisticsPooling
from nnet.passes.base import keep
from nnet.plan import ir
from nnet.plan.derived import PooledStatistics
from nnet.plan.ir import Builder, Plan, Value
from nnet.plan.loops import looping


@dataclass(frozen=True)
class FusePooling:
    """StatisticsExtraction -> StatisticsPooling, where nothing else reads the extracted sums.

    The periods that a window pools must follow each other without a gap or an overlap, so that
    each frame is counted once.
    """

    name: ClassVar[str] = "fuse-pooling"

    def run(self, plan: Plan) -> Plan:
        builder = Builder(plan.components)
        uses = plan.uses()
        names: dict[Value, Value] = {}
        in_loop = looping(plan)
        for value, operation in enumerate(plan.operations):
            renamed = operation.renamed(names)
            if isinstance(renamed, ir.ApplyWindow) and value not in in_loop:
                single = uses[operation.operands[0]] == 1
                renamed = _pooled(renamed, builder) if single else renamed
            names[value] = keep(renamed, builder)
        return builder.plan(plan.results, names)


def _pooled(operation: ir.ApplyWindow, builder: Builder) -> ir.ApplyWindow:
    before = builder.operations[operation.source.value]
    pooling = builder.components[operation.component]
    if not (isinstance(before, ir.ApplyWindow) and isinstance(pooling, StatisticsPooling)):
        return operation
    extraction = builder.components[before.component]
    if not isinstance(extraction, StatisticsExtraction):
        return operation
    if pooling.input_period != extraction.output_period:
        return operation
    name = f"{before.component}*{operation.component}"
    builder.components[name] = PooledStatistics(extraction, pooling)
    return replace(operation, component=name, source=before.source)
