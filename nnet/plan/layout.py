"""Binding a plan to a request: which times every value is computed at, and who reads which rows.

Needs flow backward from the outputs, so that only rows that an output depends on are computed.
What can be computed at all flows forward from the inputs; it matters only where the network asks
(IfDefined, Failover) and is worked out only there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nnet.components.frames import Window
from nnet.errors import NnetError
from nnet.plan import ir
from nnet.plan.available import Available, frames_of
from nnet.plan.groups import Loop
from nnet.plan.ir import Plan, Value
from nnet.plan.reach import fixed_times, total_reach
from nnet.plan.request import AnyTimes, Request, TimeList
from nnet.plan.times import IntArray, Selection, Times


@dataclass(frozen=True)
class Piece:
    """Rows of an operand, and the rows of the result that they go to (None: all, in order)."""

    rows: Selection
    into: IntArray | None = None


@dataclass(frozen=True)
class Layout:
    """For each value the times at which it is stored, in order, and how its operands are read.

    `times[v]` is empty where value v is not needed. `reads[v]` has one piece for each operand of
    operation v, in the order of `Operation.rows` (for a window: all rows of the operand).
    `results` holds, by output name, the value and the rows of it that the request asks for.
    """

    times: tuple[Times, ...]
    reads: tuple[tuple[Piece, ...], ...]
    results: tuple[tuple[str, Value, Piece], ...]


NOTHING = Times(0, 1, 0)


def bind(plan: Plan, request: Request, *, exact: bool = True) -> Layout:
    """The layout of `plan` for `request`.

    Args:
        exact: compute exactly the rows that are needed. Otherwise a value that is needed at, say,
            two of every three times is computed at all of them: reading rows at equal distances
            is a view, reading scattered ones a copy. Batch-norm in training must be exact, because
            its statistics are over the rows that there are.

    Raises:
        NnetError: an output asks for a time that cannot be computed from the inputs given.
    """
    if not exact:
        try:
            return _Binding(plan, request, exact=False).layout()
        except NnetError:
            pass  # a row in between cannot be computed: take exactly those that are needed
    return _Binding(plan, request, exact=True).layout()


def _times(times: AnyTimes) -> Times:
    if isinstance(times, TimeList):
        return Times.of(np.array(times.times, dtype=np.int64))
    return Times(times.start, times.step, times.count)


class _Binding:
    def __init__(self, plan: Plan, request: Request, exact: bool) -> None:
        self.plan = plan
        self.exact = exact
        self.given = {name: _times(times) for name, times in request.inputs}
        self.wanted = {name: _times(times) for name, times in request.outputs}

    def layout(self) -> Layout:
        times = self._needs()
        reads = tuple(
            self._reads(operation, times[value], times) if times[value].count else ()
            for value, operation in enumerate(self.plan.operations)
        )
        results = tuple(
            (name, value, Piece(times[value].select(self.wanted[name])))
            for name, value in self.plan.results
            if name in self.wanted
        )
        return Layout(tuple(times), reads, results)

    def _needs(self) -> list[Times]:
        known = dict(self.plan.results)
        for name in self.wanted.keys() - known.keys():
            raise NnetError(f"there is no output '{name}'; the plan has: {', '.join(known)}")
        needs = [NOTHING] * len(self.plan.operations)
        for name, value in self.plan.results:
            if name in self.wanted:
                needs[value] = needs[value].union(self.wanted[name])
        for group in reversed(self.plan.groups):
            if isinstance(group, Loop):
                self._needs_of_loop(group, needs)
            elif needs[group].count:
                self._needs_of_value(group, needs)
        return needs

    def _needs_of_value(self, value: Value, needs: list[Times]) -> None:
        """Settles what is stored of one value, and adds to the needs of its operands."""
        operation = self.plan.operations[value]
        if not self.exact:
            needs[value] = needs[value].covered()
        if isinstance(operation, ir.Input):
            needs[value] = self._stored_input(operation, needs[value])
        elif isinstance(operation, ir.Undefined):
            raise NnetError(f"'{operation.origin}' is asked for at an index it never has")
        else:
            self._check_window(operation, needs[value])
            for source, need in self._source_needs(operation, needs[value]):
                needs[source] = needs[source].union(need)

    def _needs_of_loop(self, loop: Loop, needs: list[Times]) -> None:
        horizon = self._available.horizon
        asked = {v: frames_of(needs[v], horizon) for v in loop.values if needs[v].count}
        if not asked:
            return
        for value, frames in self._available.needed_in(loop, asked).items():
            needs[value] = needs[value].union(Times.of_frames(frames))
            self._check_window(self.plan.operations[value], needs[value])

    def _check_window(self, operation: ir.Operation, need: Times) -> None:
        """Raises NnetError if a window has not the frames without which there is no output.

        Of a window that takes what there is, only what can be computed is asked for, so that
        nothing that it reads would say that it is empty.
        """
        for rows in operation.rows():
            window = self.plan.window(rows)
            if window is None or window.exact or not need.count:
                continue
            frames = frames_of(need, self._available.horizon)
            missing = frames.difference(window.computable(self._available(rows.value)))
            if missing.bits:
                raise NnetError(
                    f"'{operation.origin}' cannot be computed at t = {Times.of_frames(missing)}: "
                    f"of the frames from {window.first:+d} to {window.last:+d} around it, the "
                    "inputs given do not provide those that it needs; give more frames at once "
                    "(--frames-per-chunk) or of context (--extra-left-context, "
                    "--extra-right-context)"
                )

    def _stored_input(self, operation: ir.Input, need: Times) -> Times:
        given = self.given.get(operation.name)
        if given is None:
            raise NnetError(f"the request gives no input '{operation.name}', which is needed")
        if not given.contains(need):
            missing = need.difference(given)
            raise NnetError(
                f"input '{operation.name}' is given at t = {given}, but the outputs need it at "
                f"t = {need} (missing: {missing}); give the missing frames of context"
            )
        return given

    def _source_needs(self, operation: ir.Operation, need: Times) -> list[tuple[Value, Times]]:
        """What each operand must provide, in the order of `Operation.rows`."""
        parts = operation.parts(need, self._defined)
        read = zip(operation.rows(), parts, strict=True)
        return [(rows.value, self._read(rows, part)) for rows, part in read]

    def _read(self, rows: ir.Rows, part: Times) -> Times:
        """The rows of an operand that rows `part` of an operation read."""
        window = self.plan.window(rows)
        if window is None:
            return part.image(rows.maps)
        frames = self._available.read(rows, frames_of(part, self._available.horizon))
        return Times.of_frames(frames)

    def _reads(self, operation: ir.Operation, own: Times, times: list[Times]) -> tuple[Piece, ...]:
        parts = operation.parts(own, self._defined)
        pieces = []
        for rows, part in zip(operation.rows(), parts, strict=True):
            stored = times[rows.value]
            if rows.window:
                pieces.append(Piece(Selection(0, 1, stored.count)))
            elif operation.whole:
                pieces.append(Piece(stored.select(own, rows.maps)))
            else:
                pieces.append(self._scattered(stored, rows, part, own))
        return tuple(pieces)

    @staticmethod
    def _scattered(stored: Times, rows: ir.Rows, part: Times, own: Times) -> Piece:
        """The rows of an operand that are read for `part` of the operation's own times."""
        into = None if part == own else np.searchsorted(own.array(), part.array())
        selected = stored.select(part, rows.maps) if part.count else Selection(0, 1, 0)
        return Piece(selected, into)

    def _defined(self, value: Value, among: Times) -> Times:
        """The times among `among` at which `value` can be computed."""
        if not among.count:
            return among
        horizon = self._available.horizon
        return Times.of_frames(frames_of(among, horizon) & self._available(value))

    @cached_property
    def _available(self) -> Available:
        """What can be computed among all times that this request can ask about."""
        sets = [t for t in (*self.given.values(), *self.wanted.values()) if t.count]
        points = [p for o in self.plan.operations for p in fixed_times(o)]
        first = min(points + [t.start for t in sets])
        last = max(points + [t.last for t in sets])
        margin = 1 + total_reach(self.plan)
        return Available(self.plan, self.given, Window(first - margin, last - first + 2 * margin))
