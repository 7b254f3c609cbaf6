"""Which loops of a plan do not depend on each other, and can be run at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nnet.plan.groups import Loop
from nnet.plan.ir import Plan, Value

Alike = Callable[[Loop, Loop], bool]
Group = Value | tuple[Loop, ...]
"""A value, or loops that are run together."""


def with_pairs(plan: Plan, groups: Sequence[Value | Loop], alike: Alike) -> list[Group]:
    """The groups in an order in which they can be computed, with loops in pairs where two of them
    are alike and neither needs the other."""
    merged: list[Group] = [(g,) if isinstance(g, Loop) else g for g in groups]
    first = 0
    while first < len(merged):
        partner = _partner(plan, merged, first, alike)
        if partner is not None:
            one, other = merged[first], merged[partner]
            assert isinstance(one, tuple)
            assert isinstance(other, tuple)
            rest = [g for n, g in enumerate(merged) if n not in (first, partner)]
            merged = _in_order(plan, [*rest[:first], (*one, *other), *rest[first:]])
        first += 1
    return merged


def _partner(plan: Plan, groups: Sequence[Group], first: int, alike: Alike) -> int | None:
    """The first later loop that can be run together with one."""
    group = groups[first]
    if not isinstance(group, tuple) or len(group) > 1:
        return None
    needs = _needs(plan, groups)
    for number in range(first + 1, len(groups)):
        other = groups[number]
        if not isinstance(other, tuple) or len(other) > 1 or not alike(group[0], other[0]):
            continue
        if not needs[first] >> number & 1 and not needs[number] >> first & 1:
            return number
    return None


def _values(group: Group) -> list[Value]:
    return [v for loop in group for v in loop.values] if isinstance(group, tuple) else [group]


def _direct(plan: Plan, groups: Sequence[Group]) -> list[set[int]]:
    """The groups that each reads."""
    made_by = {value: n for n, group in enumerate(groups) for value in _values(group)}
    return [
        {
            made_by[operand]
            for value in _values(group)
            for operand in plan.operations[value].operands
            if made_by.get(operand, n) != n
        }
        for n, group in enumerate(groups)
    ]


def _needs(plan: Plan, groups: Sequence[Group]) -> list[int]:
    """For each group a bit for every one that it depends on, at any distance."""
    needs: list[int] = []
    for direct in _direct(plan, groups):
        bits = 0
        for number in direct:
            bits |= needs[number] | 1 << number
        needs.append(bits)
    return needs


def _in_order(plan: Plan, groups: Sequence[Group]) -> list[Group]:
    """Each group after those that it reads, otherwise as they were."""
    direct = _direct(plan, groups)
    ordered: dict[int, None] = {}
    waiting = list(reversed(range(len(groups))))
    while waiting:
        number = waiting[-1]
        before = sorted(direct[number] - ordered.keys(), reverse=True)
        if number in ordered or not before:
            ordered[waiting.pop()] = None
        else:
            waiting += before
    return [groups[number] for number in ordered]
