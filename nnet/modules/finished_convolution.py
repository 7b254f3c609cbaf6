"""Convolutions at test time, with what follows them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nnet.modules.base import WindowModule, constant
from nnet.modules.registry import implements
from nnet.modules.time_height import TimeHeightConvolution
from nnet.plan.windows import WindowRows


@implements("FinishedConvolution")
class FinishedConvolution(WindowModule):
    """The convolution finishes its result before it stores it, or in place."""

    offsets: Tensor | None

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.convolution = TimeHeightConvolution(spec.convolution).requires_grad_(False)
        self.register_buffer("offsets", constant(spec.offsets))

    def windowed(self, x: Tensor, rows: WindowRows) -> Tensor:
        convolution = self.convolution.bound(self.implementation)
        return convolution.finished(x, rows, self.spec.activation, self.offsets)
