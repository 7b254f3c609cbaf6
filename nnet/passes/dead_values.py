"""Dead values: what no result depends on is dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from nnet.plan import ir
from nnet.plan.ir import Builder, Plan, Value


@dataclass(frozen=True)
class DeadValues:
    """Removes operations, and components, that no result needs."""

    name: ClassVar[str] = "dead-values"

    def run(self, plan: Plan) -> Plan:
        alive: set[Value] = set()
        waiting = [value for _, value in plan.results]
        while waiting:
            value = waiting.pop()
            if value not in alive:
                alive.add(value)
                operation = plan.operations[value]
                waiting.extend(operation.operands)
                if isinstance(operation, ir.Carried):
                    waiting.append(operation.of)
        builder = Builder(plan.components)
        names: dict[Value, Value] = {}
        for value in sorted(alive):
            names[value] = builder.emit(plan.operations[value].renamed(names))
        made = builder.plan(plan.results, names)
        return Plan(made.operations, made.results, _used_components(made))


def _used_components(plan: Plan) -> dict[str, Any]:
    used = set()
    for operation in plan.operations:
        used.add(getattr(operation, "component", None))
        used.add(getattr(operation, "scale_offset", None))
    return {name: spec for name, spec in plan.components.items() if name in used}
