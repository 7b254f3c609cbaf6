"""Sequences end to end: one time axis for sequences that each have their own request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nnet.plan.ir import Plan
from nnet.plan.times import At, RoundDown, Shift, TimeMap, compose


@dataclass(frozen=True)
class EndToEnd:
    """Puts time t of sequence n at `spacing * n + origin + t`.

    What reads a fixed time (ReplaceIndex) then reads it in its own sequence. `spacing` and `origin`
    must be multiples of the network's modulus, and no row may reach from one sequence into another.
    """

    name: ClassVar[str] = "end-to-end"

    spacing: int
    origin: int

    def run(self, plan: Plan) -> Plan:
        return Plan(
            tuple(operation.mapped(self._maps) for operation in plan.operations),
            plan.results,
            plan.components,
        )

    def _maps(self, maps: tuple[TimeMap, ...]) -> tuple[TimeMap, ...]:
        moved: list[TimeMap] = []
        for step in maps:
            if isinstance(step, At):
                moved += [RoundDown(self.spacing), Shift(self.origin + step.time)]
            else:
                moved.append(step)
        return compose(tuple(moved), ())
