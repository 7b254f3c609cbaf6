"""The steps that carry out the operations of a plan, with torch.

A new operation registers its step: `step_of.register`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from functools import singledispatch

import numpy as np
import torch
from torch import Tensor

from nnet.kernels.affine.terms import Term
from nnet.kernels.windows.windows import resident
from nnet.modules.affine import AnyAffine
from nnet.modules.base import ComponentModule, WindowModule
from nnet.modules.elementwise import ScaleOffset
from nnet.plan import ir
from nnet.plan.implementations import Implementation
from nnet.plan.ir import Plan, Value
from nnet.plan.layout import Layout, Piece
from nnet.plan.times import Selection
from nnet.plan.windows import WindowRows
from nnet.runtime.affine import AffineStep
from nnet.runtime.batch_norm import ReluBatchNorm
from nnet.runtime.values import LIKE, Values

Step = Callable[[Values], Tensor]


@dataclass
class Bound:
    """A plan bound to a layout, to modules, and to what the table of implementations chose.

    Attributes:
        implementations: by value; plain torch for those that are not there.
        packed: the affine operations that run on packed weights, without a derivative.
        consumed: pairs (value, its last reader) where the reader may write over the value.
    """

    plan: Plan
    layout: Layout
    modules: Mapping[str, ComponentModule]
    implementations: Mapping[Value, Implementation] = field(default_factory=dict)
    packed: Set[Value] = frozenset()
    consumed: Set[tuple[Value, Value]] = frozenset()

    def implementation(self, value: Value) -> Implementation:
        """Which implementation carries out an operation."""
        return self.implementations.get(value, "reference")

    def module(self, value: Value, name: str) -> ComponentModule:
        """A component's module as the implementation of an operation carries it out."""
        return self.modules[name].bound(self.implementation(value))

    @staticmethod
    def term(source: int, rows: ir.Rows, selection: Selection) -> Term:
        """Rows of `source` as an affine transform reads them."""
        index = None if selection.index is None else torch.from_numpy(selection.index)
        where = (selection.start, selection.step, selection.count)
        return Term(source, *where, index, rows.offset, rows.dim, rows.scale)

    def takes(self, operation: ir.Operation, value: Value) -> list[Step]:
        """What reads the rows of each operand."""
        pieces = self.layout.reads[value]
        return [
            self.take(rows.value, piece)
            for rows, piece in zip(operation.rows(), pieces, strict=True)
        ]

    def take(self, name: Value, piece: Piece) -> Step:
        """Reads the rows of a piece; a view wherever strides can express it."""
        rows = piece.rows
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


@singledispatch
def step_of(operation: ir.Operation, bound: Bound, value: Value) -> Step:
    """What makes the rows of an operation from those of other values."""
    raise TypeError(f"no way to carry out {type(operation).__name__}")


@step_of.register
def _constant(operation: ir.Constant, bound: Bound, value: Value) -> Step:
    rows = bound.layout.times[value].count
    returned = any(value == result for _, result, _ in bound.layout.results)
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


@step_of.register
def _look(operation: ir.Look, bound: Bound, value: Value) -> Step:
    return bound.take(operation.source.value, bound.layout.reads[value][0])


@step_of.register
def _logits(operation: ir.Logits, bound: Bound, value: Value) -> Step:
    return bound.take(operation.source.value, bound.layout.reads[value][0])


@step_of.register
def _columns(operation: ir.Columns, bound: Bound, value: Value) -> Step:
    take = bound.take(operation.source.value, bound.layout.reads[value][0])
    return lambda values: take(values).narrow(-1, operation.offset, operation.dim)


@step_of.register
def _append(operation: ir.Append, bound: Bound, value: Value) -> Step:
    takes = bound.takes(operation, value)
    return lambda values: torch.cat([take(values) for take in takes], dim=-1)


@step_of.register
def _sum(operation: ir.Sum, bound: Bound, value: Value) -> Step:
    terms = list(zip(bound.takes(operation, value), operation.scales, strict=True))
    terms.sort(key=lambda term: term[1] != 1.0)  # the first is then free, if any is unscaled
    (first, first_scale), *rest = terms

    def step(values: Values) -> Tensor:
        result = first(values)
        result = result if first_scale == 1.0 else result * first_scale
        for take, scale in rest:
            result = torch.add(result, take(values), alpha=scale)
        return result

    return step


@step_of.register(ir.IfDefined)
@step_of.register(ir.Failover)
@step_of.register(ir.Switch)
def _scattered(operation: ir.Operation, bound: Bound, value: Value) -> Step:
    pieces = bound.layout.reads[value]
    takes = bound.takes(operation, value)
    into = [None if p.into is None else torch.from_numpy(p.into) for p in pieces]
    rows = bound.layout.times[value].count

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


@step_of.register
def _apply(operation: ir.Apply, bound: Bound, value: Value) -> Step:
    take = bound.take(operation.source.value, bound.layout.reads[value][0])
    module = bound.module(value, operation.component)
    times = bound.layout.times[value]
    return lambda values: module(take(values), times)


@step_of.register
def _apply_window(operation: ir.ApplyWindow, bound: Bound, value: Value) -> Step:
    module = bound.module(value, operation.component)
    assert isinstance(module, WindowModule)
    times, source = bound.layout.times, operation.source.value
    window = bound.plan.components[operation.component].window
    rows = WindowRows(window, times[source], times[value])
    return lambda values: module(values[source], times[value], rows)


@step_of.register
def _generate(operation: ir.Generate, bound: Bound, value: Value) -> Step:
    module = bound.module(value, operation.component)
    times = bound.layout.times[value]

    def step(values: Values) -> Tensor:
        like = values[LIKE]
        return module(like.new_empty((times.count, like.shape[1], 0)), times)

    return step


@step_of.register
def _spliced_affine(operation: ir.SplicedAffine, bound: Bound, value: Value) -> Step:
    rows = (*operation.terms, *operation.bypass)
    names = list(dict.fromkeys(r.value for r in rows))
    terms = [
        bound.term(names.index(r.value), r, piece.rows)
        for r, piece in zip(rows, bound.layout.reads[value], strict=True)
    ]
    module = bound.module(value, operation.component)
    name = operation.scale_offset
    scale_offset = bound.module(value, name) if name else None
    assert isinstance(module, AnyAffine)
    assert scale_offset is None or isinstance(scale_offset, ScaleOffset)
    consume = [
        (r.value, value) in bound.consumed and r.value not in (t.value for t in operation.terms)
        for r in operation.bypass
    ] == [True]
    packed = value in bound.packed
    return AffineStep(operation, value, names, terms, module, scale_offset, consume, packed)


@step_of.register
def _affine_batch_norm(operation: ir.AffineBatchNorm, bound: Bound, value: Value) -> Step:
    names = list(dict.fromkeys(r.value for r in operation.terms))
    *pieces, last = bound.layout.reads[value]
    if not operation.bypass:
        pieces.append(last)
    terms = [
        bound.term(names.index(r.value), r, piece.rows)
        for r, piece in zip(operation.terms, pieces, strict=True)
    ]
    module = bound.module(value, operation.component)
    assert isinstance(module, AnyAffine)
    bypass = [bound.term(0, rows, last.rows) for rows in operation.bypass]
    beside = [rows.value for rows in operation.bypass]
    modules = bound.module(value, operation.relu), bound.module(value, operation.batch_norm)
    following = ReluBatchNorm.of(*modules, bypass, bound.layout.times[value])

    def step(values: Values) -> Tensor:
        sources = [values[name] for name in names]
        return following.after(module, sources, terms, *(values[other] for other in beside))

    return step


@step_of.register
def _relu_batch_norm(operation: ir.ReluBatchNorm, bound: Bound, value: Value) -> Step:
    takes = bound.takes(operation, value)
    times = bound.layout.times[value]
    whole = Term(0, 0, 1, times.count, None, 0, operation.dim, operation.bypass_scale)
    modules = bound.module(value, operation.relu), bound.module(value, operation.component)
    following = ReluBatchNorm.of(*modules, [whole for _ in operation.bypass], times)
    return lambda values: following(*(take(values) for take in takes))
