"""No-op removal: a NoOp component is its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nnet.passes.base import keep, rewrite
from nnet.plan import ir
from nnet.plan.ir import Builder, Operation, Plan, Value


@dataclass(frozen=True)
class RemoveNoOps:
    """Removes NoOp components.

    `derivatives`: keep those whose backprop-scale changes the derivative.
    """

    name: ClassVar[str] = "remove-noops"

    derivatives: bool = False

    def run(self, plan: Plan) -> Plan:
        return rewrite(plan, self._visit)

    def _visit(self, operation: Operation, builder: Builder) -> Value:
        match operation:
            case ir.Apply(component=component, source=source):
                spec = builder.components[component]
                if spec.type_name == "NoOpComponent" and not (
                    self.derivatives and spec.backprop_scale != 1.0
                ):
                    return source.value
        return keep(operation, builder)
