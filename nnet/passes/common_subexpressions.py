"""Common subexpressions: equal operations on equal operands become one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nnet.passes.base import keep, rewrite
from nnet.plan import ir
from nnet.plan.builder import Builder
from nnet.plan.ir import Operation, Plan, Value


@dataclass(frozen=True)
class CommonSubexpressions:
    """Merges equal operations.

    `components` says whether two applications of one component to the same rows may be merged: not
    in training, where components may be random or count what they see.
    """

    name: ClassVar[str] = "common-subexpressions"

    components: bool = True

    def run(self, plan: Plan) -> Plan:
        return rewrite(plan, self._visit, share=True)

    def _visit(self, operation: Operation, builder: Builder) -> Value:
        if isinstance(operation, ir.Apply) and not self.components:
            return builder.emit(operation, share=False)
        return keep(operation, builder)
