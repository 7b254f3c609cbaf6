"""The loops of a plan: how each is run, and which are run together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import Tensor

from nnet.modules.base import ComponentModule
from nnet.plan.ir import Plan, Value
from nnet.plan.layout import Layout
from nnet.plan.loops.loop import Loop
from nnet.plan.loops.side_by_side import Group, with_pairs
from nnet.runtime.stepping.loop import LoopRunner
from nnet.runtime.values import Values
from nnet.runtime.whole.loop import WholeLoop, run_together

Run = Callable[[Values, Tensor], list[Tensor]]
"""From all values and some input to the rows of the values that are wanted outside."""


class LoopGroups:
    """What is computed under a layout, in order, with loops that one launch runs in pairs.

    Args:
        whole: whether loops may be run by one kernel each.
    """

    def __init__(
        self,
        plan: Plan,
        layout: Layout,
        modules: Mapping[str, ComponentModule],
        *,
        whole: bool,
    ) -> None:
        self.plan, self.layout, self.modules = plan, layout, modules
        groups = [g for g in plan.groups if self.members(g)]
        loops = [group for group in groups if isinstance(group, Loop)]
        self._visible = {loop.values: self._read_outside(groups, loop) for loop in loops}
        found = [(loop, WholeLoop.of(*self._bound(loop))) for loop in loops if whole]
        self._wholes = {loop.values: made for loop, made in found if made is not None}
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

    def _bound(
        self, loop: Loop
    ) -> tuple[Plan, Layout, Loop, Mapping[str, ComponentModule], list[Value]]:
        return self.plan, self.layout, loop, self.modules, self._visible[loop.values]

    def _are_alike(self, one: Loop, other: Loop) -> bool:
        """Whether one launch can run both loops."""
        first, second = self._wholes.get(one.values), self._wholes.get(other.values)
        return first is not None and second is not None and first.pairs_with(second)

    def step(self, loops: tuple[Loop, ...]) -> tuple[tuple[Value, ...], Run]:
        """The values of loops that are wanted outside, and what makes them."""
        visible = tuple(value for loop in loops for value in self._visible[loop.values])
        steppings = [LoopRunner(*self._bound(loop)) for loop in loops]
        wholes = [self._wholes[loop.values] for loop in loops if loop.values in self._wholes]
        return visible, partial(_run, steppings, wholes)


def _run(
    steppings: Sequence[LoopRunner], wholes: Sequence[WholeLoop], values: Values, like: Tensor
) -> list[Tensor]:
    """Runs loops by one kernel, if that was chosen for all of them; otherwise step by step."""
    if len(wholes) == len(steppings) and all(whole.chosen for whole in wholes):
        made = run_together(wholes, _taken(values, wholes), like)
        return [rows for own in made for rows in own]
    return [rows for runner in steppings for rows in runner(_taken(values, [runner]), like)]


def _taken(values: Values, runners: Sequence[LoopRunner | WholeLoop]) -> dict[Value, Tensor]:
    """What runners read outside their loops."""
    wanted = (value for runner in runners for value in runner.outer)
    return {value: values[value] for value in wanted if value in values}
