"""Which rows can be computed, and which are needed, worked out on sets of frames held as bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nnet.components.frames import Frames, Window
from nnet.plan import ir
from nnet.plan.ir import Operation, Plan, Value
from nnet.plan.loops.loop import Loop
from nnet.plan.times import At, RoundDown, Shift, TimeMap, Times


def frames_of(times: Times, window: Window) -> Frames:
    """The same set as bits."""
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
                self._settle(group)
            else:
                self._known[group] = self._evaluate(self.plan.operations[group])
        return self._known[value]

    def _settle(self, loop: Loop) -> None:
        self._known.update(dict.fromkeys(loop.values, self.horizon.none))
        changed = True
        while changed:
            changed = False
            for value in loop.values:
                new = self._evaluate(self.plan.operations[value])
                changed = changed or new != self._known[value]
                self._known[value] = new

    def _evaluate(self, operation: Operation) -> Frames:
        known, everything = self._known, self.horizon.all
        match operation:
            case ir.Input(name=name):
                times = self.given.get(name)
                return self.horizon.none if times is None else frames_of(times, self.horizon)
            case ir.Undefined():
                return self.horizon.none
            case ir.Constant() | ir.IfDefined():
                return everything
            case ir.Carried(of=of):
                return known[of]
            case ir.Look(source=source, maps=maps):
                return preimage(known[source.value], maps)
            case ir.SplicedAffine(terms=terms, bypass=bypass):
                sets = (preimage(known[r.value], r.maps) for r in (*terms, *bypass))
                return _meet(sets, everything)
            case ir.ApplyWindow(component=component, source=source):
                return self.plan.components[component].window.computable(known[source.value])
            case ir.Failover(first=first, second=second):
                return known[first.value] | known[second.value]
            case ir.Switch(sources=sources):
                result = self.horizon.none
                for i, source in enumerate(sources):
                    result |= known[source.value] & self.horizon.every(len(sources), i)
                return result
        return _meet((known[v] for v in operation.operands), everything)

    def needed(self, operation: Operation, rows: Frames) -> list[tuple[Value, Frames]]:
        """What each operand must provide for `rows`, in the order of the operands."""
        match operation:
            case ir.Carried(of=of):
                return [(of, rows)]
            case ir.Look(source=source, maps=maps):
                return [(source.value, image(rows, maps))]
            case ir.SplicedAffine(terms=terms, bypass=bypass):
                return [(r.value, image(rows, r.maps)) for r in (*terms, *bypass)]
            case ir.IfDefined(source=source):
                return [(source.value, rows & self(source.value))]
            case ir.Failover(first=first, second=second):
                there = self(first.value)
                return [(first.value, rows & there), (second.value, rows.without(there))]
            case ir.Switch(sources=sources):
                count = len(sources)
                return [
                    (s.value, rows & self.horizon.every(count, i)) for i, s in enumerate(sources)
                ]
            case ir.ApplyWindow(component=component, source=source):
                window = self.plan.components[component].window
                read = rows.floored(window.modulus).reached(window.offsets)
                return [(source.value, read if window.exact else read & self(source.value))]
        return [(value, rows) for value in operation.operands]

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


def _meet(sets: Iterable[Frames], everything: Frames) -> Frames:
    for frames in sets:
        everything &= frames
    return everything
