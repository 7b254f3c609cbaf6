"""Dead values: what no result depends on is dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nnet.plan import ir
from nnet.plan.ir import Plan, Value


@dataclass(frozen=True)
class DeadValues:
    """Removes operations, and components, that no result needs."""

    name: ClassVar[str] = "dead-values"

    def run(self, plan: Plan) -> Plan:
        alive = {value for _, value in plan.results}
        for value in reversed(range(len(plan.operations))):
            if value in alive:
                alive.update(plan.operations[value].operands)
        names: dict[Value, Value] = {}
        operations: list[ir.Operation] = []
        for value in sorted(alive):
            names[value] = len(operations)
            operations.append(plan.operations[value].renamed(names))
        used = set()
        for operation in operations:
            if isinstance(operation, ir.Apply | ir.SplicedAffine):
                used.add(operation.component)
            if isinstance(operation, ir.SplicedAffine):
                used.add(operation.scale_offset)
        return Plan(
            tuple(operations),
            tuple((name, names[value]) for name, value in plan.results),
            {name: spec for name, spec in plan.components.items() if name in used},
        )
