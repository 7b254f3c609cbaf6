"""Scales and offsets, trained and fixed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnet.modules.registry import ComponentModule, implements
from nnet.plan.times import Times


def _repeated(vector: Tensor, dim: int) -> Tensor:
    """A vector of one block, repeated to `dim` columns."""
    return vector if vector.numel() == dim else vector.repeat(dim // vector.numel())


@implements("PerElementScaleComponent", "NaturalGradientPerElementScaleComponent")
class PerElementScale(ComponentModule):
    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.scales = self.parameter("scales")

    def forward(self, x: Tensor, times: Times) -> Tensor:
        return x * self.scales


@implements("PerElementOffsetComponent")
class PerElementOffset(ComponentModule):
    """One offset a column, or one a column of a block that repeats."""

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.offsets = self.parameter("offsets")

    def forward(self, x: Tensor, times: Times) -> Tensor:
        return x + _repeated(self.offsets, self.spec.input_dim)


@implements("ScaleAndOffsetComponent")
class ScaleAndOffset(ComponentModule):
    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.scales = self.parameter("scales")
        self.offsets = self.parameter("offsets")

    def forward(self, x: Tensor, times: Times) -> Tensor:
        scales = _repeated(self.scales, self.spec.input_dim)
        return x * scales + _repeated(self.offsets, self.spec.input_dim)


@implements("FixedScaleComponent")
class FixedScale(ComponentModule):
    scales: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.register_buffer("scales", torch.tensor(spec.scales))

    def forward(self, x: Tensor, times: Times) -> Tensor:
        return x * self.scales


@implements("FixedBiasComponent")
class FixedBias(ComponentModule):
    bias: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.register_buffer("bias", torch.tensor(spec.bias))

    def forward(self, x: Tensor, times: Times) -> Tensor:
        return x + self.bias


@implements("ScaleOffset")
class ScaleOffset(ComponentModule):
    """What passes fold test-time batch-norm and the like into."""

    scales: Tensor
    offsets: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.register_buffer("scales", torch.tensor(spec.scales))
        self.register_buffer("offsets", torch.tensor(spec.offsets))

    def forward(self, x: Tensor, times: Times) -> Tensor:
        return torch.addcmul(self.offsets, x, self.scales)
