"""Recurrences in a plan: which values depend on themselves, and in what steps they are computed.

A step computes a block of frames of every value of a loop. Value v at time t belongs to step
floor((t - start + phase[v]) / block) in a loop that goes forward in time, floor((start - t +
phase[v]) / block) in one that goes backward, where `start` is such that the first row that there is
begins step 0: as in nnet3, which computes rows as soon as it can, the last step alone may have
fewer frames. Within a step values are computed in the order of the plan; a row of a carried value
is there one step after it was made. Phases and the largest block for which all this can hold are
found as longest paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nnet.components.window import TimeWindow
from nnet.errors import NnetError
from nnet.graph.cycles import strongly_connected
from nnet.plan.operation import Operation, Rows, Value
from nnet.plan.times import At, RoundDown, Shift, TimeMap


@dataclass(frozen=True)
class Loop:
    """A strongly connected part of a plan.

    Attributes:
        values: in the order in which a step computes them.
        forward: whether it goes forward in time, reading the past.
        block: frames a step.
        phases: for each value, by how many frames it is ahead of the steps.
    """

    values: tuple[Value, ...]
    forward: bool
    block: int
    phases: Mapping[Value, int]


WindowOf = Callable[[Rows], TimeWindow | None]
"""The window that is read around each row, where an operation reads one."""


def find_groups(operations: Sequence[Operation], window: WindowOf) -> tuple[Value | Loop, ...]:
    """All values, each loop as one, in an order in which they can be computed.

    Raises:
        NnetError: a recurrence goes neither forward nor backward in time.
    """
    if not any(operation.carries for operation in operations):
        return tuple(range(len(operations)))
    graph = {
        value: tuple(rows.value for rows in operation.rows())
        for value, operation in enumerate(operations)
    }
    return tuple(
        group[0] if len(group) == 1 else _loop(operations, window, tuple(sorted(group)))
        for group in strongly_connected(graph)
    )


@dataclass(frozen=True)
class Edge:
    """Row t of `value` reads rows t + first .. t + last of `source`."""

    value: Value
    source: Value
    first: int
    last: int
    carried: bool


def _loop(operations: Sequence[Operation], window: WindowOf, values: tuple[Value, ...]) -> Loop:
    every = (edge for v in values for edge in edges(operations[v], v, window))
    inner = [edge for edge in every if edge.source in values]
    widest = sum(max(abs(e.first), abs(e.last)) for e in inner)
    for forward in (True, False):
        phases = _phases(values, inner, forward, 1)
        if phases is None:
            continue
        good, bad = 1, widest + 1
        while bad - good > 1:
            middle = (good + bad) // 2
            tried = _phases(values, inner, forward, middle)
            if tried is None:
                bad = middle
            else:
                good, phases = middle, tried
        return Loop(values, forward, good, phases)
    origins = ", ".join(dict.fromkeys(operations[v].origin for v in values))
    raise NnetError(
        f"the recurrence through {origins} cannot be put in order: going around it does not always "
        "lead back in time, or always forward"
    )


def _phases(
    values: tuple[Value, ...], edges: list[Edge], forward: bool, block: int
) -> dict[Value, int] | None:
    """Phases for steps of `block` frames, or None if a row would have to be made before itself."""
    phases = dict.fromkeys(values, 0)
    for _ in range(len(values) + 1):
        changed = False
        for edge in edges:
            reach = edge.last if forward else -edge.first
            least = phases[edge.source] + reach + (block if edge.carried else 0)
            if phases[edge.value] < least:
                phases[edge.value] = least
                changed = True
        if not changed:
            return phases
    return None


def edges(operation: Operation, value: Value, window: WindowOf) -> Iterator[Edge]:
    """What `operation`, which makes `value`, reads, and how far away."""
    for rows in operation.rows():
        read = window(rows)
        first, last = _reach(rows.maps) if read is None else (read.first, read.last)
        yield Edge(value, rows.value, first, last, operation.carries)


ANYWHERE = 10**9


def _reach(maps: tuple[TimeMap, ...]) -> tuple[int, int]:
    """The first and last row that is read, relative to the own one."""
    first = last = 0
    for step in maps:
        match step:
            case Shift(by=by):
                first, last = first + by, last + by
            case RoundDown(modulus=modulus):
                first -= modulus - 1
            case At():
                first, last = -ANYWHERE, ANYWHERE
    return first, last
