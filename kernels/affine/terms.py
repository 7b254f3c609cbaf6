"""What describes affine transforms of spliced rows: terms, and what follows the transform."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nnet.kernels.windows.windows import resident

NARROW = 256
"""Terms of fewer columns are put side by side with others for the weight's gradient: a product with
few columns is slower than a copy of them."""


class Term(NamedTuple):
    """Which rows and columns of which source.

    Rows `start, start + step, ...` (`length` of them; step 0 repeats one row), or those at
    `positions`; columns `offset` .. `offset + dim`; all times `scale`.
    """

    source: int
    start: int
    step: int
    length: int
    positions: Tensor | None
    offset: int
    dim: int
    scale: float = 1.0

    def view(self, source: Tensor) -> Tensor:
        """The term's rows `(length or 1, batch, dim)`, a view wherever strides can express it."""
        if self.offset or self.dim != source.shape[-1]:
            source = source.narrow(-1, self.offset, self.dim)
        if self.positions is not None:
            return source.index_select(0, resident(self.positions, source.device))
        if self.step == 0:
            return source[self.start : self.start + 1]
        if self.start == 0 and self.step == 1 and self.length == source.shape[0]:
            return source
        return source[self.start : self.start + (self.length - 1) * self.step + 1 : self.step]


class Epilogue(NamedTuple):
    """What follows the affine transform before the result is stored.

    `activation` is '' or a name in `nnet.kernels.functions.FUNCTIONS`; `scales` and `offsets` are
    `(dim,)` or None; `bypass` terms of the same columns as the result are added last.
    """

    activation: str = ""
    scales: Tensor | None = None
    offsets: Tensor | None = None
    bypass: tuple[Term, ...] = ()


ScaledRows = tuple[Tensor, float]
"""A term's rows `(count or 1, batch, dim)` and their scale."""

Observer = Callable[[Sequence[ScaledRows], Tensor], None]
"""Sees, in the backward pass, the terms' rows and the derivative `(count, batch, dim)` of the
result: what natural gradient is computed from."""


def as_matrix(view: Tensor) -> Tensor:
    """A term as a matrix: `(count * batch, dim)`, without a copy if strides allow."""
    return view.squeeze(1) if view.shape[1] == 1 else view.reshape(-1, view.shape[-1])


def column_sums(rows: Tensor) -> Tensor:
    """The sum of rows `(count, batch, dim)`, as a matrix product: several times faster."""
    matrix = as_matrix(rows)
    return torch.mm(matrix.new_ones((1, matrix.shape[0])), matrix).squeeze(0)
