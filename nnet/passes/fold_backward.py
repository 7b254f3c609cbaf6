"""Scales and offsets fold into the affine component before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nnet.plan import ir
from nnet.plan.derived import FoldedAffine, ScaleOffset
from nnet.plan.ir import Plan, Value

HOMOGENEOUS = "RectifiedLinearComponent"
"""relu(s x) = s relu(x) for s > 0, so that a positive scale passes through it."""


@dataclass(frozen=True)
class FoldBackward:
    """affine -> [relu ->] scale and offset, where nothing else reads in between.

    Without the relu both fold into the affine; behind it only a positive scale does, and the
    offset stays.
    """

    name: ClassVar[str] = "fold-backward"

    def run(self, plan: Plan) -> Plan:
        components = dict(plan.components)
        operations = list(plan.operations)
        uses = plan.uses()
        for value, operation in enumerate(operations):
            if not isinstance(operation, ir.Apply):
                continue
            spec = components[operation.component]
            if not isinstance(spec, ScaleOffset):
                continue
            found = _affine_before(operations, components, uses, operation.source.value)
            if found is None:
                continue
            affine, through_relu = found
            target = operations[affine]
            assert isinstance(target, ir.Apply)
            if through_relu and not (spec.scales > 0).all():
                continue
            offsets = np.zeros_like(spec.offsets) if through_relu else spec.offsets
            left = spec.offsets if through_relu else np.zeros_like(spec.offsets)
            folded = f"{target.component}+{operation.component}"
            components[folded] = _scaled(components[target.component], spec.scales, offsets)
            operations[affine] = _with_component(target, folded)
            rest = f"{operation.component}.offset"
            components[rest] = ScaleOffset(np.ones_like(spec.scales), left)
            operations[value] = _with_component(operation, rest)
        return Plan(tuple(operations), plan.results, components)


def _affine_before(
    operations: list[ir.Operation],
    components: dict[str, object],
    uses: list[int],
    value: Value,
) -> tuple[Value, bool] | None:
    """The affine application that `value` is, and whether a relu lies between."""
    through_relu = False
    while uses[value] == 1:
        operation = operations[value]
        if not isinstance(operation, ir.Apply):
            return None
        spec = components[operation.component]
        if isinstance(spec, FoldedAffine):
            return value, through_relu
        if through_relu or getattr(spec, "type_name", "") != HOMOGENEOUS:
            return None
        through_relu = True
        value = operation.source.value
    return None


def _scaled(affine: object, scales: np.ndarray, offsets: np.ndarray) -> FoldedAffine:
    assert isinstance(affine, FoldedAffine)
    wide = scales.astype(np.float64)
    bias = offsets + (wide * affine.bias if affine.bias is not None else 0.0)
    return FoldedAffine((affine.linear * wide[:, None]).astype(np.float32), bias.astype(np.float32))


def _with_component(operation: ir.Apply, component: str) -> ir.Apply:
    return ir.Apply(
        component=component, source=operation.source, dim=operation.dim, origin=operation.origin
    )
