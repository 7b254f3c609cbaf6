"""Affine and fixed-affine components."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from nnet.kernels.affine.packed import pack
from nnet.kernels.affine.spliced import Observer, Term, spliced_affine
from nnet.modules.base import ComponentModule, constant
from nnet.modules.registry import implements
from nnet.plan.times import Times


class Part(NamedTuple):
    """Columns `first` .. `first + dim` of a matrix, times `scale`."""

    first: int
    dim: int
    scale: float


Parts = tuple[Part, ...]


class AnyAffine(ComponentModule):
    """y = linear x + bias, `linear` (output_dim, columns), `bias` (output_dim,) or None."""

    linear: Tensor
    bias: Tensor | None
    observer: Observer | None = None
    """Set by an optimizer that wants to see the rows that the gradient comes from."""

    def transposed(self, first: int, dim: int) -> Tensor:
        """Columns of the matrix, transposed: kept as long as the matrix stays as it is."""
        kept = self.__dict__.setdefault("_transposed", {})
        state = (self.linear.data_ptr(), self.linear._version, self.linear.dtype)
        if kept.get((first, dim), (None, None))[0] != state:
            block = self.linear.detach().narrow(1, first, dim)
            kept[first, dim] = (state, block.t().contiguous())
        found: Tensor = kept[first, dim][1]
        return found

    def packed(self, terms: Parts, bf16: bool = False) -> Tensor:
        """Parts of the matrix, packed for C++; the same tensor until the matrix changes."""
        kept = self.__dict__.setdefault("_packed", {})
        state = (self.linear.data_ptr(), self.linear._version)
        if kept.get((terms, bf16), (None, None))[0] != state:
            kept[terms, bf16] = (state, pack(self._cut(terms), bf16=bf16))
        found: Tensor = kept[terms, bf16][1]
        return found

    def _cut(self, terms: Parts) -> list[Tensor]:
        matrix = self.linear.detach().t()
        parts = [matrix[part.first : part.first + part.dim] for part in terms]
        scales = [part.scale for part in terms]
        return [x if s == 1.0 else x * s for x, s in zip(parts, scales, strict=True)]

    def forward(self, x: Tensor, times: Times) -> Tensor:
        observed = self.observer is not None and torch.is_grad_enabled()
        if self.implementation == "reference" and not observed:
            return functional.linear(x, self.linear, self.bias)
        whole = Term(0, 0, 1, x.shape[0], None, 0, x.shape[-1])
        return spliced_affine(
            [x],
            [whole],
            self.linear,
            self.bias,
            None,
            self.observer,
            implementation=self.implementation,
        )

    @torch.no_grad()
    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        return torch.matmul(gradient, self.linear)


@implements("AffineComponent", "NaturalGradientAffineComponent", "LinearComponent", "TdnnComponent")
class Affine(AnyAffine):
    """Trainable; for a Tdnn the columns are one block for each time offset."""

    def __init__(self, spec: object) -> None:
        super().__init__(spec)
        self.linear = self.parameter("linear")
        has_bias = getattr(spec, "bias", None) is not None
        self.bias = self.parameter("bias") if has_bias else None


LINE = 64
"""Bytes of a cache line: rows of a matrix that begin with one are read faster."""

PAGE = 1024
"""Rows of a matrix that are multiples of so many bytes fall on few sets of a cache."""


def _spread(matrix: Tensor) -> Tensor:
    """A copy whose rows begin with a cache line each, and are spread over all of the cache."""
    rows, columns = matrix.shape
    line = LINE // matrix.element_size()
    width = -(-columns // line) * line
    if width * matrix.element_size() % PAGE == 0:
        width += line
    return matrix.new_empty((rows, width))[:, :columns].copy_(matrix)


@implements("FixedAffineComponent", "FoldedAffine")
class FixedAffine(AnyAffine):
    """Not trained.

    Attributes:
        version: grows when the matrix changes.
    """

    def __init__(self, spec: object) -> None:
        super().__init__(spec)
        self.register_buffer("linear", constant(self.spec.linear))
        self.register_buffer("bias", constant(self.spec.bias))
        self.version = 0
        self._blocks: dict[object, list[Tensor]] = {}

    def blocks(self, terms: Parts, dtype: torch.dtype | None = None) -> list[Tensor]:
        """The matrix in parts for `BlockedAffine`: each term's columns, scaled, transposed.

        Args:
            terms: which parts. The same list is given until the matrix changes.
            dtype: of the parts; the matrix's by default.
        """
        key = (terms, dtype)
        if key not in self._blocks:
            self._blocks[key] = [_spread(part.to(dtype or part.dtype)) for part in self._cut(terms)]
        return self._blocks[key]

    def _forget(self) -> None:
        self.version += 1
        self._blocks.clear()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._forget()
        super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        self._forget()
        return super()._apply(*args, **kwargs)
