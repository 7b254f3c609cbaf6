"""Affine maps of equal blocks of columns, with one matrix or one for each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nnet.modules.base import ComponentModule
from nnet.modules.registry import implements
from nnet.plan.times import Times


@implements("RepeatedAffineComponent", "NaturalGradientRepeatedAffineComponent")
class RepeatedAffine(ComponentModule):
    """An affine transform of each block of columns, by the same matrix."""

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.linear = self.parameter("linear")
        self.bias = self.parameter("bias")

    def forward(self, x: Tensor, times: Times) -> Tensor:
        blocks = x.unflatten(-1, (self.spec.num_repeats, -1))
        return functional.linear(blocks, self.linear, self.bias).flatten(-2)

    @torch.no_grad()
    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        blocks = gradient.unflatten(-1, (self.spec.num_repeats, -1))
        return torch.matmul(blocks, self.linear).flatten(-2)


@implements("BlockAffineComponent")
class BlockAffine(ComponentModule):
    """A matrix of its own for each block."""

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.linear = self.parameter("linear")
        self.bias = self.parameter("bias")

    @property
    def matrices(self) -> Tensor:
        """The blocks' matrices, (blocks, columns made, columns read)."""
        return self.linear.unflatten(0, (self.spec.num_blocks, -1))

    def _by_block(self, x: Tensor) -> Tensor:
        """Rows as (blocks, rows, columns)."""
        return x.flatten(0, -2).unflatten(-1, (self.spec.num_blocks, -1)).transpose(0, 1)

    def forward(self, x: Tensor, times: Times) -> Tensor:
        products = torch.bmm(self._by_block(x), self.matrices.transpose(1, 2))
        return products.transpose(0, 1).reshape(*x.shape[:-1], -1) + self.bias

    @torch.no_grad()
    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        products = torch.bmm(self._by_block(gradient), self.matrices)
        return products.transpose(0, 1).reshape(x.shape)
