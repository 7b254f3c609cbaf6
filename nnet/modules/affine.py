"""Affine and fixed-affine components."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from nnet.kernels.affine.packed import pack
from nnet.kernels.affine.spliced import spliced_affine
from nnet.kernels.affine.terms import Observer, Term
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
        """Columns of the matrix, transposed, as they are now."""
        return self._kept_for(
            (first, dim), lambda: self.linear.detach().narrow(1, first, dim).t().contiguous()
        )

    def packed(self, terms: Parts, bf16: bool = False) -> Tensor:
        """Parts of the matrix, packed for C++, as they are now."""
        return self._kept_for((terms, bf16), lambda: pack(self._cut(terms), bf16=bf16))

    def _kept_for(self, key: object, make: Callable[[], Tensor]) -> Tensor:
        """What is made of the matrix; while it is not trained, it is kept.

        A trained matrix changes with every step, and in ways that leave no trace (through `.data`,
        as many optimizers and averages do). So what is kept is used only where the matrix is,
        number by number, what it was made of: comparing is several times faster than making it.
        """
        if self.training or torch.is_grad_enabled():
            self.__dict__.pop("_copies", None)
            return make()
        before, kept = self.__dict__.get("_copies", (None, {}))
        matrix = self.linear.detach()
        if before is None or not _same_bits(before, matrix):
            with torch.inference_mode(mode=False):
                before, kept = matrix.clone(), {}
            self.__dict__["_copies"] = (before, kept)
        if key not in kept:
            kept[key] = make()
        value: Tensor = kept[key]
        return value

    def _cut(self, terms: Parts) -> list[Tensor]:
        matrix = self.linear.detach().t()
        parts = [matrix[part.first : part.first + part.dim] for part in terms]
        scales = [part.scale for part in terms]
        return [x if s == 1.0 else x * s for x, s in zip(parts, scales, strict=True)]

    def forward(self, x: Tensor, times: Times) -> Tensor:
        observed = self.observer is not None and torch.is_grad_enabled()
        if self.implementation != "triton" and not observed:
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


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, compared as whole words: half of the time."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.is_contiguous() and other.is_contiguous() and one.nbytes % 8 == 0:
        one, other = one.view(-1).view(torch.int64), other.view(-1).view(torch.int64)
    return torch.equal(one, other)


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
    """Not trained: `linear` and `bias` are buffers, and what is made of them is kept.

    It is made anew after `load_state_dict`, `to` and the like, and where another tensor has taken
    their place or one was changed in place. A change through `.data`, which leaves no trace in a
    tensor, has to be told by `forget`.

    Attributes:
        version: grows when the matrix changes.
    """

    def __init__(self, spec: object) -> None:
        super().__init__(spec)
        self.register_buffer("linear", constant(self.spec.linear))
        self.register_buffer("bias", constant(self.spec.bias))
        self.version = 0
        self._kept: dict[object, Any] = {}

    def _kept_for(self, key: object, make: Callable[[], Tensor]) -> Tensor:
        if key not in self._kept:
            self._kept[key] = make()
        value: Tensor = self._kept[key]
        return value

    def blocks(self, terms: Parts, dtype: torch.dtype | None = None) -> list[Tensor]:
        """The matrix in parts for `BlockedAffine`: each term's columns, scaled, transposed.

        Args:
            terms: which parts. The same list is given until the matrix changes.
            dtype: of the parts; the matrix's by default.
        """
        key = ("blocks", terms, dtype)
        if key not in self._kept:
            self._kept[key] = [_spread(part.to(dtype or part.dtype)) for part in self._cut(terms)]
        blocks: list[Tensor] = self._kept[key]
        return blocks

    def forget(self) -> None:
        """Lets go of what was made of the matrix."""
        self.version += 1
        self._kept.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_kept": {}}

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.forget()
        super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        self.forget()
        return super()._apply(*args, **kwargs)
