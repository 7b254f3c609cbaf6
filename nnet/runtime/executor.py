"""Carrying out a plan that is bound to a request, with torch."""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import partial

from torch import Tensor

from nnet.modules.base import ComponentModule
from nnet.plan import ir
from nnet.plan.implementations import Implementation
from nnet.plan.ir import Plan, Value
from nnet.plan.layout import Layout
from nnet.plan.loops.side_by_side import Group
from nnet.runtime.affine import chained
from nnet.runtime.loop_groups import LoopGroups, RunLoops
from nnet.runtime.steps import Bound, step_of
from nnet.runtime.values import LIKE, Entry, Values


class Executor:
    """A list of steps, one for each operation that is needed.

    The rows of values are in the order of the layout's times; a value is let go after its last
    reader.

    Args:
        implementations: what the table chose, by value; plain torch by default.
        packed: the affine operations that run on packed weights, without a derivative.
    """

    def __init__(
        self,
        plan: Plan,
        layout: Layout,
        modules: Mapping[str, ComponentModule],
        implementations: Mapping[Value, Implementation] | None = None,
        packed: Set[Value] = frozenset(),
    ) -> None:
        self.plan = plan
        self.layout = layout
        self.bound = Bound(plan, layout, modules, implementations or {}, packed)
        self.inputs: list[tuple[Value, str]] = []
        self.steps: list[Entry] = []
        self._chains: dict[bool, list[Entry]] = {}
        self.results = [
            (name, self.bound.take(value, piece)) for name, value, piece in layout.results
        ]
        self._loops = LoopGroups(self.bound)
        self._build()

    def _build(self) -> None:
        groups = self._loops.groups
        last_reader: dict[Value, int] = {}
        for position, group in enumerate(groups):
            for value in self._loops.members(group):
                for operand in self.plan.operations[value].operands:
                    last_reader[operand] = position
        kept = {value for _, value, _ in self.layout.results}
        self.bound.consumed = self._find_consumed(groups, last_reader, kept)
        done: list[list[Value]] = [[] for _ in groups]
        for value, position in last_reader.items():
            if value not in kept:
                done[position].append(value)
        for group, finished in zip(groups, done, strict=True):
            if isinstance(group, tuple):
                visible, run = self._loops.step(group)
                self.steps.append((visible, partial(self._run_loops, run), finished))
                continue
            operation = self.plan.operations[group]
            if isinstance(operation, ir.Input):
                self.inputs.append((group, operation.name))
            else:
                self.steps.append((group, step_of(operation, self.bound, group), finished))

    def _run_loops(self, run: RunLoops, values: Values) -> list[Tensor]:
        return run(values, values[LIKE])

    def _find_consumed(
        self, groups: list[Group], last_reader: Mapping[Value, int], kept: set[Value]
    ) -> set[tuple[Value, Value]]:
        """Pairs (value, its last reader) where the reader may write over the value.

        Such a value is made by an affine operation and read by affine operations and appends
        alone, which copy: nobody holds a view of it.
        """
        copying = (ir.SplicedAffine, ir.Append)
        viewed = set(kept)
        computed = set()
        for group in groups:
            for value in self._loops.members(group):
                operation = self.plan.operations[value]
                if isinstance(group, tuple) or not isinstance(operation, copying):
                    viewed.update(operation.operands)
                elif isinstance(operation, ir.SplicedAffine):
                    computed.add(value)
        pairs = ((value, groups[position]) for value, position in last_reader.items())
        return {
            (value, reader)
            for value, reader in pairs
            if value in computed - viewed and not isinstance(reader, tuple)
        }

    def run(
        self,
        inputs: Mapping[str, Tensor],
        into: Mapping[str, Tensor] | None = None,
        bf16: bool = False,
    ) -> dict[str, Tensor]:
        """Computes results `(time, batch, dim)` by name, from inputs `(time, batch, dim)` by
        name."""
        values: Values = {LIKE: next(iter(inputs.values()))}
        for name, value, piece in self.layout.results:
            whole = piece.rows.is_all(self.layout.times[value].count)
            if into and whole and into[name].is_contiguous():
                values[value] = into[name]
        for value, name in self.inputs:
            values[value] = inputs[name]
        steps = self._chained(bf16) if self.bound.packed else self.steps
        for key, step, done in steps:
            if isinstance(key, tuple):
                for value, rows in zip(key, step(values), strict=True):
                    values[value] = rows
            else:
                values[key] = step(values)
            for finished in done:
                values.pop(finished, None)
        results = {name: take(values) for name, take in self.results}
        for name, target in (into or {}).items():
            if results[name] is not target:
                results[name] = target.copy_(results[name])
        return results

    def _chained(self, bf16: bool) -> list[Entry]:
        """The steps, where affine operations that follow each other are one."""
        if bf16 not in self._chains:
            self._chains[bf16] = chained(self.steps, bf16)
        return self._chains[bf16]
