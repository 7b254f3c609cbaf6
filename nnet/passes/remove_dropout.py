"""Dropout removal: at test time random components are the identity or a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nnet.passes.base import keep, rewrite
from nnet.plan import ir
from nnet.plan.builder import Builder
from nnet.plan.ir import Operation, Plan, Value

IDENTITIES = frozenset(("GeneralDropoutComponent", "SpecAugmentTimeMaskComponent"))


@dataclass(frozen=True)
class RemoveDropout:
    """Test time only. nnet3's Dropout multiplies by 1 - p then; the others do nothing."""

    name: ClassVar[str] = "remove-dropout"

    def run(self, plan: Plan) -> Plan:
        return rewrite(plan, self._visit)

    def _visit(self, operation: Operation, builder: Builder) -> Value:
        match operation:
            case ir.Apply(component=component, source=source, origin=origin):
                spec = builder.components[component]
                if spec.type_name in IDENTITIES:
                    return source.value
                if spec.type_name == "DropoutComponent":
                    return builder.sum([(source.value, 1.0 - spec.dropout_proportion)], origin)
        return keep(operation, builder)
