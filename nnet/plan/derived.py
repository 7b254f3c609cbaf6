"""Component specifications that only plans have: what passes make by folding others together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

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


IDENTITIES = frozenset(("NoOpComponent", "BackpropTruncationComponent", "ClipGradientComponent"))
"""Components whose value is the input's, but for a scale that BackpropTruncation may have."""


def is_identity(spec: Any) -> bool:
    """Whether a component gives what it is given (its derivative may be another one)."""
    return spec.type_name in IDENTITIES and getattr(spec, "scale_factor", 1.0) == 1.0


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
