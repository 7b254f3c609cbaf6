"""Building a plan, operation by operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nnet.plan.ir import Append, Carried, Constant, Look, Operation, Plan, Source, Sum, Value
from nnet.plan.times import TimeMap, compose


class Builder:
    """Collects operations; `look`, `append` and `sum` put nested ones into their flat form.

    With `share`, an operation that is already there is not made a second time.
    """

    def __init__(self, components: Mapping[str, Any], share: bool = False) -> None:
        self.components = dict(components)
        self.operations: list[Operation] = []
        self._share = share
        self._known: dict[Operation, Value] = {}

    def emit(self, operation: Operation, *, share: bool = True) -> Value:
        """Adds an operation, or finds it if this builder shares and `share` allows it."""
        share = share and self._share
        if share and operation in self._known:
            return self._known[operation]
        self.operations.append(operation)
        if share:
            self._known[operation] = len(self.operations) - 1
        return len(self.operations) - 1

    def plan(self, results: Sequence[tuple[str, Value]], names: Mapping[Value, Value]) -> Plan:
        """The plan of what was emitted, with the components that it names.

        Args:
            results: output names and the values that they were.
            names: from the values of the plan before (what `results` and `Carried.of` still name)
                to those of this one.
        """
        operations = tuple(
            replace(o, of=names[o.of]) if isinstance(o, Carried) else o for o in self.operations
        )
        named = {name for operation in operations for name in operation.components()}
        components = {name: spec for name, spec in self.components.items() if name in named}
        return Plan(operations, tuple((name, names[v]) for name, v in results), components)

    def look(self, value: Value, maps: tuple[TimeMap, ...], origin: str) -> Value:
        """`value` seen through `maps`, which move inside appends and join other looks."""
        maps = compose(maps, ())
        operation = self.operations[value]
        match operation:
            case Constant():
                return value
            case _ if not maps:
                return value
            case Look(source=source, maps=inner):
                return self.look(source.value, compose(maps, inner), origin)
            case Append(sources=sources):
                return self.append([self.look(s.value, maps, origin) for s in sources], origin)
        return self.emit(Look(source=Source(value), maps=maps, dim=operation.dim, origin=origin))

    def append(self, parts: Sequence[Value], origin: str) -> Value:
        """The parts side by side; the parts of a part that is an append take its place."""
        flat: list[Source] = []
        for part in parts:
            operation = self.operations[part]
            flat.extend(operation.sources if isinstance(operation, Append) else [Source(part)])
        if len(flat) == 1:
            return flat[0].value
        dim = sum(self.operations[s.value].dim for s in flat)
        return self.emit(Append(sources=tuple(flat), dim=dim, origin=origin))

    def sum(self, terms: Sequence[tuple[Value, float]], origin: str) -> Value:
        """The sum of `value * scale`; a term that merely scales another value is seen through."""
        terms = [self._unscaled(value, scale) for value, scale in terms]
        if len(terms) == 1 and terms[0][1] == 1.0:
            return terms[0][0]
        return self.emit(
            Sum(
                sources=tuple(Source(value) for value, _ in terms),
                scales=tuple(scale for _, scale in terms),
                dim=self.operations[terms[0][0]].dim,
                origin=origin,
            )
        )

    def _unscaled(self, value: Value, scale: float) -> tuple[Value, float]:
        match self.operations[value]:
            case Sum(sources=(source,), scales=(inner,)):
                return source.value, scale * inner
        return value, scale
