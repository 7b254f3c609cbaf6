"""Component specifications that only plans have: what passes make by folding others together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from nnet.components.pooling import StatisticsExtraction, StatisticsPooling
from nnet.components.time_height import TimeHeightConvolution
from nnet.components.window import TimeWindow

FloatArray = npt.NDArray[np.float32]


AFFINE = frozenset(
    (
        "AffineComponent",
        "NaturalGradientAffineComponent",
        "LinearComponent",
        "FixedAffineComponent",
        "TdnnComponent",
        "FoldedAffine",
    )
)


def is_affine(spec: Any) -> bool:
    """Whether a component is `linear x + bias` on the rows of its window, side by side."""
    return spec.type_name in AFFINE


def is_fixed_affine(spec: Any) -> bool:
    """Whether it is an affine component that is not trained."""
    return spec.type_name in ("FixedAffineComponent", "FoldedAffine")


IDENTITIES = frozenset(("NoOpComponent", "BackpropTruncationComponent", "ClipGradientComponent"))
"""Components whose value is the input's, but for a scale that BackpropTruncation may have."""


def is_identity(spec: Any) -> bool:
    """Whether a component gives what it is given (its derivative may be another one)."""
    return spec.type_name in IDENTITIES and getattr(spec, "scale_factor", 1.0) == 1.0


def derivative_reads_values(spec: Any) -> bool:
    """Whether the derivative of a component that is the identity depends on its input."""
    return bool(spec.type_name == "ClipGradientComponent")


def takes_parts(spec: Any) -> bool:
    """Whether a component's input may lie in the parts that it is appended of."""
    return bool(spec.type_name == "BackpropTruncationComponent")


def input_blocks(spec: Any) -> tuple[int, ...]:
    """The widths of blocks of columns of a component's input that may lie apart in memory.

    Empty if its input has to be one block.
    """
    return tuple(getattr(spec, "input_blocks", ()))


@dataclass(frozen=True, eq=False)
class FoldedAffine:
    """y = linear x + bias; `linear` is (output_dim, input_dim), `bias` (output_dim,)."""

    type_name: ClassVar[str] = "FoldedAffine"
    window: ClassVar[TimeWindow] = TimeWindow()

    linear: FloatArray
    bias: FloatArray | None

    @property
    def input_dim(self) -> int:
        return int(self.linear.shape[1])

    @property
    def output_dim(self) -> int:
        return int(self.linear.shape[0])


@dataclass(frozen=True, eq=False)
class ScaleOffset:
    """y = scales * x + offsets, each (dim,)."""

    type_name: ClassVar[str] = "ScaleOffset"
    window: ClassVar[TimeWindow] = TimeWindow()

    scales: FloatArray
    offsets: FloatArray

    @property
    def flops_per_row(self) -> int:
        return 2 * len(self.scales)

    @property
    def input_dim(self) -> int:
        return len(self.scales)

    @property
    def output_dim(self) -> int:
        return len(self.scales)


@dataclass(frozen=True, eq=False)
class PooledStatistics:
    """StatisticsPooling of StatisticsExtraction, without the sums of each period in between."""

    type_name: ClassVar[str] = "PooledStatistics"

    extraction: StatisticsExtraction
    pooling: StatisticsPooling

    @property
    def window(self) -> TimeWindow:
        pooled, extracted = self.pooling.window, self.extraction.window
        if extracted.offsets == range(1) and pooled.offsets == range(
            pooled.offsets[0], pooled.offsets[-1] + 1
        ):
            return pooled
        offsets = tuple(p + e for p in pooled.offsets for e in extracted.offsets)
        return TimeWindow(offsets, (), every=pooled.every)

    @property
    def flops_per_row(self) -> int:
        return self.pooling.flops_per_row

    @property
    def input_dim(self) -> int:
        return self.extraction.input_dim

    @property
    def output_dim(self) -> int:
        return self.pooling.output_dim


@dataclass(frozen=True, eq=False)
class FinishedConvolution:
    """A convolution, then an activation ('' or 'relu'), then offsets (output_dim,) or None."""

    type_name: ClassVar[str] = "FinishedConvolution"

    convolution: TimeHeightConvolution
    activation: str
    offsets: FloatArray | None

    @property
    def window(self) -> TimeWindow:
        return self.convolution.window

    @property
    def flops_per_row(self) -> int:
        return self.convolution.flops_per_row

    @property
    def num_parameters(self) -> int:
        return self.convolution.num_parameters

    @property
    def input_dim(self) -> int:
        return self.convolution.input_dim

    @property
    def output_dim(self) -> int:
        return self.convolution.output_dim
