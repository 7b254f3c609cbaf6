"""No-op removal: a component that changes nothing is its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nnet.passes.base import keep, rewrite
from nnet.plan import ir
from nnet.plan.builder import Builder
from nnet.plan.derived import IDENTITIES
from nnet.plan.ir import Operation, Plan, Value


@dataclass(frozen=True)
class RemoveNoOps:
    """Removes components that are the identity.

    `derivatives`: keep those that change the derivative.
    """

    name: ClassVar[str] = "remove-noops"

    derivatives: bool = False

    def run(self, plan: Plan) -> Plan:
        return rewrite(plan, self._visit)

    def _visit(self, operation: Operation, builder: Builder) -> Value:
        match operation:
            case ir.Apply(component=component, source=source, origin=origin):
                spec = builder.components[component]
                if spec.type_name == "NoOpComponent" and spec.backprop_scale == 1.0:
                    return source.value
                if spec.type_name in IDENTITIES and not self.derivatives:
                    scale = getattr(spec, "scale_factor", 1.0)  # of BackpropTruncation
                    return builder.sum([(source.value, scale)], origin)
        return keep(operation, builder)
