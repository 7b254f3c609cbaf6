"""Carrying out a plan that is bound to a request, with torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, singledispatchmethod

import numpy as np
import torch
from torch import Tensor

from nnet.kernels.affine.spliced import Term
from nnet.kernels.native import is_native
from nnet.kernels.windows.windows import resident
from nnet.modules.affine import AnyAffine
from nnet.modules.base import ComponentModule, WindowModule
from nnet.modules.elementwise import ScaleOffset
from nnet.plan import ir
from nnet.plan.implementations import Choice
from nnet.plan.ir import Plan, Value
from nnet.plan.layout import Layout, Piece
from nnet.plan.loops.side_by_side import Group
from nnet.plan.times import Selection
from nnet.plan.windows import WindowRows
from nnet.runtime.affine import AffineStep, chained
from nnet.runtime.batch_norm import ReluBatchNorm
from nnet.runtime.loop_groups import LoopGroups, Run
from nnet.runtime.values import LIKE, Entry, Values

Step = Callable[[Values], Tensor]
Choose = Callable[[Tensor], Mapping[Value, Choice]]
"""From rows of an input to how each operation is carried out."""


class Executor:
    """A list of steps, one for each operation that is needed.

    The rows of values are in the order of the layout's times; a value is let go after its last
    reader.

    Args:
        choose: which implementations run; plain torch by default.
    """

    def __init__(
        self,
        plan: Plan,
        layout: Layout,
        modules: Mapping[str, ComponentModule],
        choose: Choose | None = None,
    ) -> None:
        self.plan = plan
        self.layout = layout
        self.modules = modules
        self._choose = choose
        self.inputs: list[tuple[Value, str]] = []
        self.steps: list[Entry] = []
        self._chains: dict[bool, list[Entry]] = {}
        self.results = [
            (name, self._take(ir.Source(value), piece)) for name, value, piece in layout.results
        ]
        self._loops = LoopGroups(plan, layout, modules, whole=choose is not None)
        self._build()

    def _build(self) -> None:
        groups = self._loops.groups
        last_reader: dict[Value, int] = {}
        for position, group in enumerate(groups):
            for value in self._loops.members(group):
                for operand in self.plan.operations[value].operands:
                    last_reader[operand] = position
        kept = {value for _, value, _ in self.layout.results}
        self._consumed = self._find_consumed(groups, last_reader, kept)
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
                self.steps.append((group, self._step(operation, group), finished))

    def _run_loops(self, run: Run, values: Values) -> list[Tensor]:
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
        made = set()
        for group in groups:
            for value in self._loops.members(group):
                operation = self.plan.operations[value]
                if isinstance(group, tuple) or not isinstance(operation, copying):
                    viewed.update(operation.operands)
                elif isinstance(operation, ir.SplicedAffine):
                    made.add(value)
        pairs = ((value, groups[position]) for value, position in last_reader.items())
        return {
            (value, reader)
            for value, reader in pairs
            if value in made - viewed and not isinstance(reader, tuple)
        }

    def run(
        self,
        inputs: Mapping[str, Tensor],
        into: Mapping[str, Tensor] | None = None,
        bf16: bool = False,
    ) -> dict[str, Tensor]:
        """From inputs `(time, batch, dim)` by name to results `(time, batch, dim)` by name.

        Args:
            into: tensors to write results to; the operation that makes a result writes there
                itself if it can.
            bf16: multiply on a CPU's matrix units for bfloat16.
        """
        values: Values = {LIKE: next(iter(inputs.values()))}
        if self._choose is not None:
            self._set_implementations(self._choose(values[LIKE]))
        for name, value, piece in self.layout.results:
            whole = piece.rows.is_all(self.layout.times[value].count)
            if into and whole and into[name].is_contiguous():
                values[value] = into[name]
        for value, name in self.inputs:
            values[value] = inputs[name]
        steps = self._chained(bf16) if self._can_chain(inputs) else self.steps
        for made, step, done in steps:
            if isinstance(made, tuple):
                for value, rows in zip(made, step(values), strict=True):
                    values[value] = rows
            else:
                values[made] = step(values)
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

    def _can_chain(self, inputs: Mapping[str, Tensor]) -> bool:
        """Whether chains can be used: for float32 on a CPU, without a derivative or a trace."""
        plain = not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))
        here = plain and self._choose is None and not torch.compiler.is_compiling()
        return here and all(map(is_native, inputs.values()))

    def _set_implementations(self, choices: Mapping[Value, Choice]) -> None:
        """Tells the modules what was chosen; one that carries out several operations, the last."""
        for value, choice in choices.items():
            component = getattr(self.plan.operations[value], "component", None)
            if component is not None:
                self.modules[component].implementation = choice.implementation

    @singledispatchmethod
    def _step(self, operation: ir.Operation, value: Value) -> Step:
        raise TypeError(f"no way to carry out {type(operation).__name__}")

    @_step.register
    def _constant(self, operation: ir.Constant, value: Value) -> Step:
        rows = self.layout.times[value].count
        returned = any(value == made for _, made, _ in self.layout.results)
        kept: Tensor | None = None

        def step(values: Values) -> Tensor:
            nonlocal kept
            like = values[LIKE]
            shape = (rows, like.shape[1], operation.dim)
            what = (shape, like.dtype, like.device)
            if returned or kept is None or (kept.shape, kept.dtype, kept.device) != what:
                with torch.inference_mode(mode=False):  # autograd may use it later
                    kept = torch.full(shape, operation.number, dtype=what[1], device=what[2])
            return kept

        return step

    @_step.register
    def _look(self, operation: ir.Look, value: Value) -> Step:
        return self._take(operation.source, self.layout.reads[value][0])

    @_step.register
    def _logits(self, operation: ir.Logits, value: Value) -> Step:
        return self._take(operation.source, self.layout.reads[value][0])

    @_step.register
    def _columns(self, operation: ir.Columns, value: Value) -> Step:
        take = self._take(operation.source, self.layout.reads[value][0])
        return lambda values: take(values).narrow(-1, operation.offset, operation.dim)

    @_step.register
    def _append(self, operation: ir.Append, value: Value) -> Step:
        takes = self._takes(operation, value)
        return lambda values: torch.cat([take(values) for take in takes], dim=-1)

    @_step.register
    def _sum(self, operation: ir.Sum, value: Value) -> Step:
        terms = list(zip(self._takes(operation, value), operation.scales, strict=True))
        terms.sort(key=lambda term: term[1] != 1.0)  # the first is then free, if any is unscaled
        (first, first_scale), *rest = terms

        def step(values: Values) -> Tensor:
            result = first(values)
            result = result if first_scale == 1.0 else result * first_scale
            for take, scale in rest:
                result = torch.add(result, take(values), alpha=scale)
            return result

        return step

    @_step.register(ir.IfDefined)
    @_step.register(ir.Failover)
    @_step.register(ir.Switch)
    def _scattered(self, operation: ir.Operation, value: Value) -> Step:
        pieces = self.layout.reads[value]
        takes = self._takes(operation, value)
        into = [None if p.into is None else torch.from_numpy(p.into) for p in pieces]
        rows = self.layout.times[value].count

        def step(values: Values) -> Tensor:
            parts = [
                (take(values), where)
                for take, where, piece in zip(takes, into, pieces, strict=True)
                if piece.rows.count
            ]
            if len(parts) == 1 and parts[0][1] is None:
                return parts[0][0]
            like = values[LIKE]
            result = like.new_zeros((rows, like.shape[1], operation.dim))
            for part, where in parts:
                assert where is not None
                result = result.index_add(0, resident(where, part.device), part)
            return result

        return step

    @_step.register
    def _apply(self, operation: ir.Apply, value: Value) -> Step:
        take = self._take(operation.source, self.layout.reads[value][0])
        module = self.modules[operation.component]
        times = self.layout.times[value]
        return lambda values: module(take(values), times)

    @_step.register
    def _apply_window(self, operation: ir.ApplyWindow, value: Value) -> Step:
        module = self.modules[operation.component]
        assert isinstance(module, WindowModule)
        times, source = self.layout.times, operation.source.value
        window = self.plan.components[operation.component].window
        rows = WindowRows(window, times[source], times[value])
        return lambda values: module(values[source], times[value], rows)

    @_step.register
    def _generate(self, operation: ir.Generate, value: Value) -> Step:
        module = self.modules[operation.component]
        times = self.layout.times[value]

        def step(values: Values) -> Tensor:
            like = values[LIKE]
            return module(like.new_empty((times.count, like.shape[1], 0)), times)

        return step

    @_step.register
    def _spliced_affine(self, operation: ir.SplicedAffine, value: Value) -> Step:
        rows = (*operation.terms, *operation.bypass)
        names = list(dict.fromkeys(r.value for r in rows))
        terms = [
            self._term(names.index(r.value), r, piece.rows)
            for r, piece in zip(rows, self.layout.reads[value], strict=True)
        ]
        module = self.modules[operation.component]
        scale_offset = self.modules.get(operation.scale_offset)
        assert isinstance(module, AnyAffine)
        assert scale_offset is None or isinstance(scale_offset, ScaleOffset)
        consume = [
            (r.value, value) in self._consumed and r.value not in (t.value for t in operation.terms)
            for r in operation.bypass
        ] == [True]
        return AffineStep(operation, value, names, terms, module, scale_offset, consume)

    @_step.register
    def _affine_batch_norm(self, operation: ir.AffineBatchNorm, value: Value) -> Step:
        names = list(dict.fromkeys(r.value for r in operation.terms))
        *pieces, last = self.layout.reads[value]
        if not operation.bypass:
            pieces.append(last)
        terms = [
            self._term(names.index(r.value), r, piece.rows)
            for r, piece in zip(operation.terms, pieces, strict=True)
        ]
        module = self.modules[operation.component]
        assert isinstance(module, AnyAffine)
        bypass = [self._term(0, rows, last.rows) for rows in operation.bypass]
        beside = [rows.value for rows in operation.bypass]
        modules = self.modules[operation.relu], self.modules[operation.batch_norm]
        following = ReluBatchNorm.of(*modules, bypass, self.layout.times[value])

        def step(values: Values) -> Tensor:
            sources = [values[name] for name in names]
            return following.after(module, sources, terms, *(values[other] for other in beside))

        return step

    @_step.register
    def _relu_batch_norm(self, operation: ir.ReluBatchNorm, value: Value) -> Step:
        takes = self._takes(operation, value)
        times = self.layout.times[value]
        whole = Term(0, 0, 1, times.count, None, 0, operation.dim, operation.bypass_scale)
        modules = self.modules[operation.relu], self.modules[operation.component]
        following = ReluBatchNorm.of(*modules, [whole for _ in operation.bypass], times)
        return lambda values: following(*(take(values) for take in takes))

    def _term(self, source: int, rows: ir.Rows, selection: Selection) -> Term:
        index = None if selection.index is None else torch.from_numpy(selection.index)
        where = (selection.start, selection.step, selection.count)
        return Term(source, *where, index, rows.offset, rows.dim, rows.scale)

    def _takes(self, operation: ir.Operation, value: Value) -> list[Step]:
        pieces = self.layout.reads[value]
        return [
            self._take(ir.Source(operand), piece)
            for operand, piece in zip(operation.operands, pieces, strict=True)
        ]

    def _take(self, source: ir.Source, piece: Piece) -> Step:
        """Reads the rows of a piece; a view wherever strides can express it."""
        name, rows = source.value, piece.rows
        stored = self.layout.times[name].count
        if rows.is_all(stored):
            return lambda values: values[name]
        if rows.index is not None:
            index = torch.from_numpy(np.ascontiguousarray(rows.index))
            return lambda values: values[name].index_select(0, resident(index, values[name].device))
        start, step, count = rows.start, rows.step, rows.count
        if step == 0:
            return lambda values: values[name][start : start + 1].expand(count, -1, -1)
        stop = start + (count - 1) * step + 1
        return lambda values: values[name][start:stop:step]
