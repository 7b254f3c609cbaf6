"""Component specifications that only plans have: what passes make by folding others together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from nnet.components.window import TimeWindow

FloatArray = npt.NDArray[np.float32]


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
    def input_dim(self) -> int:
        return len(self.scales)

    @property
    def output_dim(self) -> int:
        return len(self.scales)
