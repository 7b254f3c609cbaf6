"""Binding a plan to a request: which times every value is computed at, and who reads which rows.

Needs flow backward from the outputs, so that only rows that an output depends on are computed.
What can be computed at all flows forward from the inputs; it matters only where the network asks
(IfDefined, Failover) and is worked out only there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nnet.errors import NnetError
from nnet.plan import ir
from nnet.plan.ir import Plan, Value
from nnet.plan.request import Request
from nnet.plan.times import At, IntArray, Selection, Shift, TimeMap, Times


@dataclass(frozen=True)
class Piece:
    """Rows of an operand, and the rows of the result that they go to (None: all, in order)."""

    rows: Selection
    into: IntArray | None = None


@dataclass(frozen=True)
class Layout:
    """For each value the times at which it is stored, in order, and how its operands are read.

    `times[v]` is empty where value v is not needed. `reads[v]` has one piece for each operand of
    operation v, in the order of `Operation.operands`. `results` holds, by output name, the value
    and the rows of it that the request asks for.
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


class _Binding:
    def __init__(self, plan: Plan, request: Request, exact: bool) -> None:
        self.plan = plan
        self.exact = exact
        self.given = {n: Times(r.start, r.step, r.count) for n, r in request.inputs}
        self.wanted = {n: Times(r.start, r.step, r.count) for n, r in request.outputs}
        self._computable: dict[Value, Times | None] = {}

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
        for value in reversed(range(len(needs))):
            if needs[value].count == 0:
                continue
            operation = self.plan.operations[value]
            if not self.exact:
                needs[value] = needs[value].covered()
            if isinstance(operation, ir.Input):
                needs[value] = self._stored_input(operation, needs[value])
            elif isinstance(operation, ir.Undefined):
                raise NnetError(f"'{operation.origin}' is asked for at an index it never has")
            else:
                for source, need in self._source_needs(operation, needs[value]):
                    needs[source] = needs[source].union(need)
        return needs

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
        """What each operand must provide, in the order of `operation.operands`."""
        match operation:
            case ir.Look(source=source, maps=maps):
                return [(source.value, need.image(maps))]
            case ir.SplicedAffine(terms=terms, bypass=bypass):
                return [(rows.value, need.image(rows.maps)) for rows in (*terms, *bypass)]
            case ir.IfDefined(source=source):
                return [(source.value, self._defined(source.value, need))]
            case ir.Failover(first=first, second=second):
                defined = self._defined(first.value, need)
                return [(first.value, defined), (second.value, need.difference(defined))]
            case ir.Switch(sources=sources):
                return [(s.value, need.residue(i, len(sources))) for i, s in enumerate(sources)]
        return [(value, need) for value in operation.operands]

    def _reads(self, operation: ir.Operation, own: Times, times: list[Times]) -> tuple[Piece, ...]:
        match operation:
            case ir.Look(source=source, maps=maps):
                return (Piece(times[source.value].select(own, maps)),)
            case ir.SplicedAffine(terms=terms, bypass=bypass):
                return tuple(Piece(times[r.value].select(own, r.maps)) for r in (*terms, *bypass))
            case ir.IfDefined() | ir.Failover() | ir.Switch():
                return tuple(
                    self._scattered(times[source], need, own)
                    for source, need in self._source_needs(operation, own)
                )
        return tuple(Piece(times[value].select(own)) for value in operation.operands)

    @staticmethod
    def _scattered(stored: Times, part: Times, own: Times) -> Piece:
        """Rows that are defined at `part` of the operation's own times."""
        into = None if part == own else np.searchsorted(own.array(), part.array())
        rows = stored.select(part) if part.count else Selection(0, 1, 0)
        return Piece(rows, into)

    def _defined(self, value: Value, among: Times) -> Times:
        """Those of the times `among` at which `value` can be computed."""
        computable = self._computable_times(value)
        return among if computable is None else among.intersection(computable)

    def _computable_times(self, value: Value) -> Times | None:
        """The times at which `value` can be computed; None stands for all times."""
        for position in range(value + 1):
            if position not in self._computable:
                self._computable[position] = self._computable_here(self.plan.operations[position])
        return self._computable[value]

    def _computable_here(self, operation: ir.Operation) -> Times | None:
        known = self._computable
        match operation:
            case ir.Input(name=name):
                return self.given.get(name, NOTHING)
            case ir.Undefined():
                return NOTHING
            case ir.Constant() | ir.IfDefined():
                return None
            case ir.Look(source=source, maps=maps):
                return self._reaching(known[source.value], maps)
            case ir.SplicedAffine(terms=terms, bypass=bypass):
                return _meet(self._reaching(known[r.value], r.maps) for r in (*terms, *bypass))
            case ir.Failover(first=first, second=second):
                one, two = known[first.value], known[second.value]
                return None if one is None or two is None else one.union(two)
            case ir.Switch(sources=sources):
                return self._switched([known[s.value] for s in sources])
        return _meet(known[v] for v in operation.operands)

    def _horizon(self) -> Times:
        """Every time that this request can ask about: inputs and outputs, with a margin."""
        sets = [t for t in (*self.given.values(), *self.wanted.values()) if t.count]
        first, last = min(t.start for t in sets), max(t.last for t in sets)
        margin = last - first + 1
        return Times(first - margin, 1, last - first + 1 + 2 * margin)

    def _reaching(self, computable: Times | None, maps: tuple[TimeMap, ...]) -> Times | None:
        """The times whose image under the maps is computable."""
        if computable is None:
            return None
        if len(maps) == 1 and isinstance(maps[0], Shift):
            return computable.image((Shift(-maps[0].by),))
        if any(isinstance(step, At) for step in maps):
            always = computable.contains(Times(0, 1, 1).image(maps))
            return None if always else NOTHING
        return computable.preimage(maps, self._horizon())

    def _switched(self, computable: list[Times | None]) -> Times | None:
        parts = [
            (self._horizon() if times is None else times).residue(i, len(computable))
            for i, times in enumerate(computable)
        ]
        union = NOTHING
        for part in parts:
            union = union.union(part)
        return union


def _meet(sets: Iterable[Times | None]) -> Times | None:
    result: Times | None = None
    for times in sets:
        if times is not None:
            result = times if result is None else result.intersection(times)
    return result
