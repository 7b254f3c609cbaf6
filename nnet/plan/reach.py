"""How far the operations of a plan reach in time, and which of its values are in loops."""

from __future__ import annotations

from math import lcm

from nnet.plan.groups import ANYWHERE, Loop, edges
from nnet.plan.ir import Plan
from nnet.plan.operation import Operation, Value
from nnet.plan.times import At, RoundDown


def looping(plan: Plan) -> set[Value]:
    """The values that are part of a loop."""
    return {v for group in plan.groups if isinstance(group, Loop) for v in group.values}


def total_reach(plan: Plan) -> int:
    """No chain of operations, each at most once, reaches further in time."""
    total = 0
    for value in range(len(plan.operations)):
        reaches = [
            max(abs(e.first), abs(e.last))
            for e in edges(plan.operations[value], value, plan.window)
        ]
        total += max((r for r in reaches if r < ANYWHERE // 2), default=0)
    return total


def period(plan: Plan) -> int:
    """A number of frames by which all times can be moved without other change."""
    periods = [operation.period for operation in plan.operations]
    for rows in (rows for operation in plan.operations for rows in operation.rows()):
        periods += [step.modulus for step in rows.maps if isinstance(step, RoundDown)]
        window = plan.window(rows)
        if window is not None:
            periods += [window.modulus, window.every]
    return lcm(*periods)


def fixed_times(operation: Operation) -> list[int]:
    """The times that an operation reads whatever the time of the row."""
    steps = (step for rows in operation.rows() for step in rows.maps)
    return [step.time for step in steps if isinstance(step, At)]
