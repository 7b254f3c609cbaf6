"""The loops of a plan: how each is run, and which are run together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from nnet.plan.groups import Loop
from nnet.plan.ir import Value
from nnet.plan.loops.side_by_side import Group, with_pairs
from nnet.runtime.stepping.loop import LoopRunner
from nnet.runtime.steps import Bound
from nnet.runtime.values import Values
from nnet.runtime.whole.loop import WholeLoop
from nnet.runtime.whole.run import run_side_by_side

RunLoops = Callable[[Values, Tensor], list[Tensor]]
"""From all values and some input to the rows of the values that are wanted outside."""


class LoopGroups:
    """What is computed under a layout, in order, with loops that one launch runs in pairs.

    A loop for whose operations the table chose kernels of a GPU runs by one kernel, if it can.
    """

    def __init__(self, bound: Bound) -> None:
        self.bound = bound
        self.plan, self.layout = plan, _ = bound.plan, bound.layout
        groups = [g for g in plan.groups if self.members(g)]
        loops = [group for group in groups if isinstance(group, Loop)]
        self._visible = {loop.values: self._read_outside(groups, loop) for loop in loops}
        ours = [loop for loop in loops if self._is_ours(loop)]
        pairs = [(loop, self._whole(loop)) for loop in ours]
        self._wholes = {loop.values: whole for loop, whole in pairs if whole is not None}
        self.groups: list[Group] = with_pairs(plan, groups, self._are_alike)

    def members(self, group: Group | Loop) -> list[Value]:
        """The values of a group that are needed."""
        match group:
            case Loop(values=values):
                return [value for value in values if self.layout.times[value].count]
            case tuple():
                return [value for loop in group for value in self.members(loop)]
        return [group] if self.layout.times[group].count else []

    def _read_outside(self, groups: Sequence[Value | Loop], loop: Loop) -> list[Value]:
        """The values of a loop that are wanted outside."""
        others = (v for group in groups if group is not loop for v in self.members(group))
        read = {operand for v in others for operand in self.plan.operations[v].operands}
        read.update(value for _, value, _ in self.layout.results)
        return [value for value in self.members(loop) if value in read]

    def _is_ours(self, loop: Loop) -> bool:
        """Whether kernels of a GPU were chosen for an operation of a loop."""
        chosen = (self.bound.implementation(value) for value in self.members(loop))
        return any(implementation == "triton" for implementation in chosen)

    def _whole(self, loop: Loop) -> WholeLoop | None:
        return WholeLoop.of(self.bound, loop, self._visible[loop.values])

    def _are_alike(self, one: Loop, other: Loop) -> bool:
        """Whether one launch can run both loops."""
        first, second = self._wholes.get(one.values), self._wholes.get(other.values)
        return first is not None and second is not None and first.pairs_with(second)

    def are_whole(self, loops: tuple[Loop, ...]) -> bool:
        """Whether one kernel each way runs loops."""
        return all(loop.values in self._wholes for loop in loops)

    def step(self, loops: tuple[Loop, ...]) -> tuple[tuple[Value, ...], RunLoops]:
        """The values of loops that are wanted outside, and what makes them."""
        visible = tuple(value for loop in loops for value in self._visible[loop.values])
        if self.are_whole(loops):
            wholes = [self._wholes[loop.values] for loop in loops]
            return visible, partial(_run_wholes, wholes)
        steppings = [LoopRunner(self.bound, loop, self._visible[loop.values]) for loop in loops]
        return visible, partial(_run_steps, steppings)


def _run_wholes(wholes: Sequence[WholeLoop], values: Values, like: Tensor) -> list[Tensor]:
    """Runs loops by one kernel."""
    results = run_side_by_side(wholes, _taken(values, wholes), like)
    return [rows for own in results for rows in own]


def _run_steps(steppings: Sequence[LoopRunner], values: Values, like: Tensor) -> list[Tensor]:
    """Runs loops step by step."""
    return [rows for runner in steppings for rows in runner(_taken(values, [runner]), like)]


def _taken(values: Values, runners: Sequence[LoopRunner | WholeLoop]) -> dict[Value, Tensor]:
    """What runners read outside their loops."""
    wanted = (value for runner in runners for value in runner.outer)
    return {value: values[value] for value in wanted if value in values}
