"""Statistics are pooled from the frames themselves, not from the sums of each period of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from nnet.components.pooling import StatisticsExtraction, StatisticsPooling
from nnet.passes.base import join
from nnet.plan import ir
from nnet.plan.builder import Builder
from nnet.plan.derived import PooledStatistics
from nnet.plan.ir import Plan


@dataclass(frozen=True)
class FusePooling:
    """StatisticsExtraction -> StatisticsPooling, where nothing else reads the extracted sums.

    The periods that a window pools must follow each other without a gap or an overlap, so that
    each frame is counted once.
    """

    name: ClassVar[str] = "fuse-pooling"

    def run(self, plan: Plan) -> Plan:
        return join(plan, ir.ApplyWindow, _pooled)


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
