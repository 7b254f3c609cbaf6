"""Which rows can be computed, and which are needed, worked out on sets of frames held as bits."""

from __future__ import annotations

from collections.abc import Mapping

from nnet.components.frames import Frames, Window
from nnet.plan import ir
from nnet.plan.groups import Loop
from nnet.plan.ir import Operation, Plan, Rows, Value
from nnet.plan.times import At, RoundDown, Shift, TimeMap, Times


def frames_of(times: Times, window: Window) -> Frames:
    """The set of times as bits."""
    if times.regular and times.count:
        ones = window.every(times.step, times.start % times.step)
        return ones & window.between(times.start, times.last + 1)
    result = 0
    for t in times.array().tolist():
        result |= 1 << (t - window.start)
    return Frames(window, result)


def image(frames: Frames, maps: tuple[TimeMap, ...]) -> Frames:
    """The frames that the maps reach from here."""
    for step in maps:
        match step:
            case Shift(by=by):
                frames = frames.shifted(-by)
            case RoundDown(modulus=modulus):
                frames = frames.floored(modulus)
            case At(time=time):
                window = frames.window
                frames = window.between(time, time + 1) if frames.bits else window.none
    return frames


def preimage(frames: Frames, maps: tuple[TimeMap, ...]) -> Frames:
    """The frames that the maps take into this set."""
    for step in reversed(maps):
        match step:
            case Shift(by=by):
                frames = frames.shifted(by)
            case RoundDown(modulus=modulus):
                frames = frames.rounded(modulus)
            case At(time=time):
                frames = frames.window.all if time in frames else frames.window.none
    return frames


class Available:
    """The rows of every value that can be computed from the inputs that are given.

    Values are worked out when they are asked for. Inside a loop the sets start empty and grow
    until nothing changes: a row that needs itself cannot be computed.
    """

    def __init__(self, plan: Plan, given: Mapping[str, Times], horizon: Window) -> None:
        self.plan = plan
        self.given = given
        self.horizon = horizon
        self._known: dict[Value, Frames] = {}
        self._next = 0

    def __call__(self, value: Value) -> Frames:
        while value not in self._known:
            group = self.plan.groups[self._next]
            self._next += 1
            if isinstance(group, Loop):
                self._find_fixed_point(group)
            else:
                self._known[group] = self._evaluate(self.plan.operations[group])
        return self._known[value]

    def _find_fixed_point(self, loop: Loop) -> None:
        self._known.update(dict.fromkeys(loop.values, self.horizon.none))
        changed = True
        while changed:
            changed = False
            for value in loop.values:
                new = self._evaluate(self.plan.operations[value])
                changed = changed or new != self._known[value]
                self._known[value] = new

    def _evaluate(self, operation: Operation) -> Frames:
        if isinstance(operation, ir.Input):
            times = self.given.get(operation.name)
            return self.horizon.none if times is None else frames_of(times, self.horizon)
        sets = [self._seen(rows) for rows in operation.rows()]
        return operation.defined(sets, self.horizon.all)

    def _seen(self, rows: Rows) -> Frames:
        """The rows of an operation for which those that it reads are there."""
        window, there = self.plan.window(rows), self._known[rows.value]
        return preimage(there, rows.maps) if window is None else window.computable(there)

    def needed(self, operation: Operation, own: Frames) -> list[tuple[Value, Frames]]:
        """What each operand must provide for rows `own`, in the order of `Operation.rows`."""
        parts = operation.parts(own, self._among)
        read = zip(operation.rows(), parts, strict=True)
        return [(rows.value, self.read(rows, part)) for rows, part in read]

    def _among(self, value: Value, frames: Frames) -> Frames:
        """Those frames of a set at which a value can be computed."""
        return frames & self(value)

    def read(self, rows: Rows, part: Frames) -> Frames:
        """The rows of an operand that rows `part` of an operation read."""
        window = self.plan.window(rows)
        if window is None:
            return image(part, rows.maps)
        read = part.floored(window.modulus).reached(window.offsets)
        return read if window.exact else read & self(rows.value)

    def needed_in(self, loop: Loop, needs: dict[Value, Frames]) -> dict[Value, Frames]:
        """All rows of a loop, and of the values that it reads, that the rows `needs` depend on."""
        known = {value: needs.get(value, self.horizon.none) for value in loop.values}
        outside: dict[Value, Frames] = {}
        changed = True
        while changed:
            changed = False
            for value in reversed(loop.values):
                if not known[value].bits:
                    continue
                for source, rows in self.needed(self.plan.operations[value], known[value]):
                    if source not in known:
                        outside[source] = outside.get(source, self.horizon.none) | rows
                    elif rows.bits & ~known[source].bits:
                        known[source] |= rows
                        changed = True
        return known | outside
