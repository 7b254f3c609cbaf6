"""Scales and offsets fold into the affine components after them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from nnet.passes.base import keep
from nnet.plan import ir
from nnet.plan.builder import Builder
from nnet.plan.derived import FoldedAffine, ScaleOffset
from nnet.plan.ir import Operation, Plan, Value

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pending:
    """A value that stands for `base * scales + offsets`, which nobody has computed yet."""

    base: Value
    scales: Vector | None = None
    offsets: Vector | None = None

    @property
    def plain(self) -> bool:
        return self.scales is None and self.offsets is None


@dataclass(frozen=True)
class FoldForward:
    """Carries scales and offsets along, through looks, columns, appends and sums.

    An affine component takes them into its matrix and bias. Where something else reads the value,
    one scale-and-offset operation computes it. Offsets thus travel along the bypass sums of a
    TDNN-F and vanish in the next linear component.
    """

    name: ClassVar[str] = "fold-forward"

    def run(self, plan: Plan) -> Plan:
        carrier = _Carrier(Builder(plan.components))
        names = [Pending(-1)] * len(plan.operations)
        for value, operation in enumerate(plan.operations):
            names[value] = carrier.visit(operation, names)
        wanted = {value for _, value in plan.results}
        wanted.update(o.of for o in plan.operations if isinstance(o, ir.Carried))
        computed = {value: carrier.value(names[value]) for value in wanted}
        return carrier.builder.plan(plan.results, computed)


@dataclass
class _Carrier:
    builder: Builder
    _computed: dict[int, Value] = field(default_factory=dict)

    def visit(self, operation: Operation, names: list[Pending]) -> Pending:
        operands = [names[v] for v in operation.operands]
        bases = {v: names[v].base for v in operation.operands}
        match operation:
            case ir.Apply(component=component):
                spec = self.builder.components[component]
                if isinstance(spec, ScaleOffset):
                    return _after(operands[0], spec)
                if isinstance(spec, FoldedAffine):
                    return self._affine(operation, operands[0], spec)
            case ir.Look():
                return replace(operands[0], base=keep(operation.renamed(bases), self.builder))
            case ir.Columns(offset=offset, dim=dim):
                part = slice(offset, offset + dim)
                return Pending(
                    self.builder.emit(operation.renamed(bases)),
                    None if operands[0].scales is None else operands[0].scales[part],
                    None if operands[0].offsets is None else operands[0].offsets[part],
                )
            case ir.Append():
                return self._append(operation, operands, bases)
            case ir.Sum():
                return self._sum(operation, operands)
        computed = {v: self.value(names[v]) for v in operation.operands}
        return Pending(keep(operation.renamed(computed), self.builder))

    def value(self, pending: Pending) -> Value:
        """The value itself, computed once (pending values live as long as the pass)."""
        if pending.plain:
            return pending.base
        key = id(pending)
        if key not in self._computed:
            self._computed[key] = self._compute(pending)
        return self._computed[key]

    def _compute(self, pending: Pending) -> Value:
        dim = self.builder.operations[pending.base].dim
        origin = self.builder.operations[pending.base].origin
        component = self._derive(
            f"{origin}.scale-offset",
            ScaleOffset(
                _or(pending.scales, np.ones(dim)).astype(np.float32),
                _or(pending.offsets, np.zeros(dim)).astype(np.float32),
            ),
        )
        source = ir.Source(pending.base)
        return self.builder.emit(
            ir.Apply(component=component, source=source, dim=dim, origin=origin)
        )

    def _derive(self, name: str, spec: object) -> str:
        while name in self.builder.components:
            name += "'"
        self.builder.components[name] = spec
        return name

    def _affine(self, operation: ir.Apply, operand: Pending, spec: FoldedAffine) -> Pending:
        component = operation.component
        if not operand.plain:
            bias = np.zeros(spec.output_dim) if spec.bias is None else spec.bias.astype(np.float64)
            if operand.offsets is not None:
                bias = bias + spec.linear @ operand.offsets
            linear = spec.linear
            if operand.scales is not None:
                linear = (linear * operand.scales).astype(np.float32)
            folded = FoldedAffine(linear, bias.astype(np.float32))
            component = self._derive(f"{component}+", folded)
        return Pending(
            self.builder.emit(
                replace(operation, component=component, source=ir.Source(operand.base))
            )
        )

    def _append(
        self, operation: ir.Append, operands: list[Pending], bases: dict[Value, Value]
    ) -> Pending:
        dims = [self.builder.operations[p.base].dim for p in operands]
        base = keep(operation.renamed(bases), self.builder)
        scales = offsets = None
        if any(p.scales is not None for p in operands):
            parts = [_or(p.scales, np.ones(d)) for p, d in zip(operands, dims, strict=True)]
            scales = np.concatenate(parts)
        if any(p.offsets is not None for p in operands):
            parts = [_or(p.offsets, np.zeros(d)) for p, d in zip(operands, dims, strict=True)]
            offsets = np.concatenate(parts)
        return Pending(base, scales, offsets)

    def _sum(self, operation: ir.Sum, operands: list[Pending]) -> Pending:
        """Offsets add up; scales are carried only if there is nothing to add to."""
        if len(operands) > 1:
            operands = [p if p.scales is None else Pending(self.value(p)) for p in operands]
        terms = [(p.base, scale) for p, scale in zip(operands, operation.scales, strict=True)]
        offsets: Vector | None = None
        for pending, scale in zip(operands, operation.scales, strict=True):
            if pending.offsets is not None:
                offsets = _or(offsets, np.zeros(operation.dim)) + scale * pending.offsets
        return Pending(self.builder.sum(terms, operation.origin), operands[0].scales, offsets)


def _after(pending: Pending, spec: ScaleOffset) -> Pending:
    """`spec` applied to a pending value."""
    scales, offsets = spec.scales.astype(np.float64), spec.offsets.astype(np.float64)
    if pending.offsets is not None:
        offsets = offsets + scales * pending.offsets
    if pending.scales is not None:
        scales = scales * pending.scales
    return Pending(
        pending.base,
        None if (scales == 1.0).all() else scales,
        None if (offsets == 0.0).all() else offsets,
    )


def _or(vector: Vector | None, default: Vector) -> Vector:
    return default if vector is None else vector
