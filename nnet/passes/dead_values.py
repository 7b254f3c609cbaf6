"""Dead values: what no result depends on is dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nnet.plan.builder import Builder
from nnet.plan.ir import Plan, Value


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
                waiting.extend(rows.value for rows in plan.operations[value].rows())
        builder = Builder(plan.components)
        names: dict[Value, Value] = {}
        for value in sorted(alive):
            names[value] = builder.emit(plan.operations[value].renamed(names))
        return builder.plan(plan.results, names)
