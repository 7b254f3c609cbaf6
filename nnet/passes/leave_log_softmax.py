"""The log-softmax of an output is left to the objective, which needs no probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nnet.passes.base import keep
from nnet.plan import ir
from nnet.plan.builder import Builder
from nnet.plan.ir import Plan, Value
from nnet.plan.reach import looping


@dataclass(frozen=True)
class LeaveLogSoftmax:
    """LogSoftmax -> output, where nothing else reads what it gives.

    Args:
        outputs: names of the outputs whose objective is the log-likelihood of targets.
    """

    name: ClassVar[str] = "leave-log-softmax"

    outputs: tuple[str, ...]

    def run(self, plan: Plan) -> Plan:
        uses, in_loop = plan.uses(), looping(plan)
        wanted = {value for name, value in plan.results if name in self.outputs}
        builder = Builder(plan.components)
        names: dict[Value, Value] = {}
        for value, operation in enumerate(plan.operations):
            renamed = operation.renamed(names)
            if value in wanted and uses[value] == 1 and value not in in_loop:
                renamed = _left(renamed, plan)
            names[value] = keep(renamed, builder)
        return builder.plan(plan.results, names)


def _left(operation: ir.Operation, plan: Plan) -> ir.Operation:
    if not isinstance(operation, ir.Apply):
        return operation
    component = operation.component
    if plan.components[component].type_name != "LogSoftmaxComponent":
        return operation
    return ir.Logits(
        component=component, source=operation.source, dim=operation.dim, origin=operation.origin
    )
