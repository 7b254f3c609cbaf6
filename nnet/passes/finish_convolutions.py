"""What follows a convolution joins it: an activation, and scales and offsets of its filters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from nnet.components.time_height import TimeHeightConvolution
from nnet.passes.base import join
from nnet.plan import ir
from nnet.plan.builder import Builder
from nnet.plan.derived import FinishedConvolution, ScaleOffset
from nnet.plan.ir import Plan


@dataclass(frozen=True)
class FinishConvolutions:
    """convolution -> [relu ->] scales and offsets, where nothing else reads in between.

    Scales that are the same at all heights, and positive behind a relu, fold into the filters;
    offsets are added in place.
    """

    name: ClassVar[str] = "finish-convolutions"

    def run(self, plan: Plan) -> Plan:
        return join(plan, ir.Apply, _finished)


def _finished(operation: ir.Apply, builder: Builder) -> ir.Operation:
    before = builder.operations[operation.source.value]
    if not isinstance(before, ir.ApplyWindow):
        return operation
    spec = builder.components[before.component]
    joined = _joined(spec, builder.components[operation.component])
    if joined is None:
        return operation
    name = f"{before.component}+{operation.component}"
    builder.components[name] = joined
    return replace(before, component=name, origin=operation.origin)


def _joined(spec: Any, after: Any) -> FinishedConvolution | None:
    """The convolution with what stands behind it; None if that cannot be."""
    if isinstance(spec, TimeHeightConvolution):
        spec = FinishedConvolution(spec, "", None)
    if not isinstance(spec, FinishedConvolution) or spec.offsets is not None:
        return None
    if getattr(after, "type_name", "") == "RectifiedLinearComponent":
        return None if spec.activation else replace(spec, activation="relu")
    if not isinstance(after, ScaleOffset):
        return None
    scales = after.scales.reshape(spec.convolution.height_out, -1)
    if (scales != scales[0]).any() or (spec.activation and not (scales[0] > 0).all()):
        return None
    folded = replace(
        spec.convolution,
        linear=spec.convolution.linear * scales[0][:, None],
        bias=spec.convolution.bias * scales[0],
    )
    offsets = after.offsets if np.any(after.offsets) else None
    return replace(spec, convolution=folded, offsets=offsets)
