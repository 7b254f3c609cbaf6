"""Scales and offsets, trained and fixed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnet.modules.base import ComponentModule
from nnet.modules.registry import implements
from nnet.plan.times import Times


def _repeated(vector: Tensor, dim: int) -> Tensor:
    """A vector of one block, repeated to `dim` columns."""
    return vector if vector.numel() == dim else vector.repeat(dim // vector.numel())


def _blocks(rows: Tensor, vector: Tensor) -> Tensor:
    """Rows as blocks of the size of a vector that repeats."""
    return rows.reshape(-1, vector.numel())


@implements("PerElementScaleComponent", "NaturalGradientPerElementScaleComponent")
class PerElementScale(ComponentModule):
    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.scales = self.parameter("scales")

    def forward(self, x: Tensor, times: Times) -> Tensor:
        return self.watched(x * self.scales, scales=lambda g: _blocks(g * x, self.scales))

    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        return gradient * self.scales.detach()


@implements("PerElementOffsetComponent")
class PerElementOffset(ComponentModule):
    """One offset a column, or one a column of a block that repeats."""

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.offsets = self.parameter("offsets")

    def forward(self, x: Tensor, times: Times) -> Tensor:
        result = x + _repeated(self.offsets, self.spec.input_dim)
        return self.watched(result, offsets=lambda g: _blocks(g, self.offsets))

    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        return gradient


@implements("ScaleAndOffsetComponent")
class ScaleAndOffset(ComponentModule):
    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.scales = self.parameter("scales")
        self.offsets = self.parameter("offsets")

    def forward(self, x: Tensor, times: Times) -> Tensor:
        scales = _repeated(self.scales, self.spec.input_dim)
        return self.watched(
            x * scales + _repeated(self.offsets, self.spec.input_dim),
            scales=lambda g: _blocks(g * x, self.scales),
            offsets=lambda g: _blocks(g, self.offsets),
        )

    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        return gradient * _repeated(self.scales.detach(), self.spec.input_dim)


@implements("FixedScaleComponent")
class FixedScale(ComponentModule):
    scales: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.register_buffer("scales", torch.tensor(spec.scales))

    def forward(self, x: Tensor, times: Times) -> Tensor:
        return x * self.scales

    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        return gradient * self.scales


@implements("FixedBiasComponent")
class FixedBias(ComponentModule):
    bias: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.register_buffer("bias", torch.tensor(spec.bias))

    def forward(self, x: Tensor, times: Times) -> Tensor:
        return x + self.bias

    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        return gradient


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

    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        return gradient * self.scales
