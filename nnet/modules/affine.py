"""Affine and fixed-affine components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nnet.kernels import packed_affine
from nnet.kernels.spliced_affine import Term
from nnet.modules.registry import ComponentModule, constant, implements
from nnet.plan.times import Times

PACKED_ROWS = 512
"""The number of rows that packed matrices are laid out for; others are right too."""


class AnyAffine(ComponentModule):
    """y = linear x + bias, `linear` (output_dim, columns), `bias` (output_dim,) or None."""

    linear: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor, times: Times) -> Tensor:
        return functional.linear(x, self.linear, self.bias)


@implements("AffineComponent", "NaturalGradientAffineComponent", "LinearComponent", "TdnnComponent")
class Affine(AnyAffine):
    """Trainable; for a Tdnn the columns are one block for each time offset."""

    def __init__(self, spec: object) -> None:
        super().__init__(spec)
        self.linear = self.parameter("linear")
        has_bias = getattr(spec, "bias", None) is not None
        self.bias = self.parameter("bias") if has_bias else None


@implements("FixedAffineComponent", "FoldedAffine")
class FixedAffine(AnyAffine):
    """Not trained."""

    def __init__(self, spec: object) -> None:
        super().__init__(spec)
        self.register_buffer("linear", constant(self.spec.linear))
        self.register_buffer("bias", constant(self.spec.bias))
        self._packed: dict[tuple[tuple[int, float], ...], list[Tensor]] = {}

    def packed(self, terms: Sequence[Term]) -> list[Tensor] | None:
        """The matrix in blocks packed for `nnet.kernels.packed_affine`; None if that cannot run."""
        if self.linear.device.type != "cpu" or self.linear.dtype != torch.float32:
            return None
        key = tuple((term.dim, term.scale) for term in terms)
        if key not in self._packed:
            blocks = self.linear.split([term.dim for term in terms], dim=1)
            scaled = [b * t.scale for b, t in zip(blocks, terms, strict=True)]
            self._packed[key] = [packed_affine.pack(block, PACKED_ROWS) for block in scaled]
        return self._packed[key]

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        self._packed.clear()
        return super()._apply(*args, **kwargs)
