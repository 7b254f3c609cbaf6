"""Test-time batch-norm and its like become plain scales and offsets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from nnet.errors import NnetError
from nnet.plan.derived import FoldedAffine, ScaleOffset, is_affine
from nnet.plan.ir import Plan

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ScaleOffsets:
    """Test time only: replaces the specifications of elementwise and affine components.

    Everything that multiplies and shifts columns becomes a `ScaleOffset`, every affine component a
    `FoldedAffine`, so that later passes have two kinds to fold and no trained type to know.
    """

    name: ClassVar[str] = "scale-offsets"

    def run(self, plan: Plan) -> Plan:
        components = {name: _simplified(name, spec) for name, spec in plan.components.items()}
        return Plan(plan.operations, plan.results, components)


def _simplified(name: str, spec: Any) -> Any:
    if is_affine(spec):
        return FoldedAffine(spec.linear, getattr(spec, "bias", None))
    make = ELEMENTWISE.get(spec.type_name)
    if make is None:
        return spec
    scales, offsets = make(name, spec)
    repeats = spec.input_dim // len(scales)
    return ScaleOffset(
        np.tile(scales, repeats).astype(np.float32), np.tile(offsets, repeats).astype(np.float32)
    )


def _batchnorm(name: str, spec: Any) -> tuple[Vector, Vector]:
    """nnet3's BatchNormComponent::ComputeDerived."""
    if not spec.count:
        raise NnetError(
            f"batch-norm component '{name}' has no statistics (its count is 0), so it cannot be "
            "used in test mode; train the network first"
        )
    variance = np.maximum(spec.stats_var.astype(np.float64), 0.0)
    scales = spec.target_rms / np.sqrt(variance + spec.epsilon)
    return scales, -spec.stats_mean.astype(np.float64) * scales


def _scales(name: str, spec: Any) -> tuple[Vector, Vector]:
    scales = spec.scales.astype(np.float64)
    return scales, np.zeros_like(scales)


def _offsets(name: str, spec: Any) -> tuple[Vector, Vector]:
    offsets = spec.offsets.astype(np.float64)
    return np.ones_like(offsets), offsets


def _bias(name: str, spec: Any) -> tuple[Vector, Vector]:
    return np.ones(len(spec.bias)), spec.bias.astype(np.float64)


def _both(name: str, spec: Any) -> tuple[Vector, Vector]:
    return spec.scales.astype(np.float64), spec.offsets.astype(np.float64)


ELEMENTWISE: dict[str, Callable[[str, Any], tuple[Vector, Vector]]] = {
    "BatchNormComponent": _batchnorm,
    "FixedScaleComponent": _scales,
    "PerElementScaleComponent": _scales,
    "NaturalGradientPerElementScaleComponent": _scales,
    "PerElementOffsetComponent": _offsets,
    "FixedBiasComponent": _bias,
    "ScaleAndOffsetComponent": _both,
}
