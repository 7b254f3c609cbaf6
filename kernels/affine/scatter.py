"""Sums over vectors that natural gradient estimates their scatter from, made block by block.

Of rows x they are |x|^2, (P x)(P x)' and (P x) x', with a projection P: the factor W of the
estimate so far (`nnet.training.natural_gradient.online`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nnet.kernels.affine.product import multiply, product
from nnet.kernels.implementation import Implementation


class Projection(NamedTuple):
    """What is wanted of vectors.

    `matrix` is P, `(rank, dim)`; `weighted` says whether (P x) x' is wanted; with `ones`, a last
    element of 1 belongs to each vector.
    """

    matrix: Tensor
    weighted: bool
    ones: bool = False


@dataclass
class ScatterSums:
    """Sums so far.

    Attributes:
        power: of |x|^2, float64.
        projected: of (P x)(P x)', `(rank, rank)`.
        weighted: of (P x) x', `(rank, dim)`, if wanted.
    """

    wanted: Projection
    count: int
    power: Tensor
    projected: Tensor
    weighted: Tensor | None
    implementation: Implementation = "reference"

    @classmethod
    def of(cls, wanted: Projection, implementation: Implementation = "reference") -> ScatterSums:
        """Sums over no vectors.

        Args:
            implementation: of products.
        """
        matrix = wanted.matrix
        rank = matrix.shape[0]
        power = torch.zeros((), dtype=torch.float64)
        weighted = torch.zeros_like(matrix) if wanted.weighted else None
        projected = matrix.new_zeros(rank, rank)
        return cls(wanted, 0, power, projected, weighted, implementation)

    def add(self, x: Tensor, h: Tensor | None = None, *, power: Tensor | float = 0.0) -> None:
        """Adds vectors `(rows, dim)`, without their ones.

        Args:
            h: P x, `(rows, rank)`, if it is known.
            power: their sum of squares, unless it is added later.
        """
        matrix, ones = self.wanted.matrix, self.wanted.ones
        rows = x.shape[0]
        if h is None:
            body = matrix[:, : x.shape[1]].t()
            h = product(x, body, self.implementation)
            if ones:
                h += matrix[:, -1]
        self.count += rows
        self.power += power + rows * ones
        how = self.implementation
        multiply(h.t(), h, self.projected, add=True, implementation=how)
        if self.weighted is not None:
            multiply(h.t(), x, self.weighted[:, : x.shape[1]], add=True, implementation=how)
            if ones:
                self.weighted[:, -1] += h.sum(0)


class ScatterObserver:
    """An observer of an affine transform (`nnet.kernels.affine.spliced.Observer`) that needs no
    more than sums, most of the time."""

    def __call__(self, rows: Sequence[tuple[Tensor, float]], gradient: Tensor) -> None:
        """Sees the terms' rows and the derivative `(count, batch, dim)` of the result."""
        raise NotImplementedError

    def projections(self) -> tuple[Projection, Projection] | None:
        """What is wanted of inputs and derivatives in place of a call; None if it has to be one."""
        raise NotImplementedError

    def take(self, inputs: ScatterSums, derivatives: ScatterSums) -> None:
        """Receives the sums of a call in place of its rows."""
        raise NotImplementedError


def wanted_of(observer: object, dtype: torch.dtype) -> tuple[Projection, Projection] | None:
    """What an observer wants in place of a call, in the type of the rows."""
    projections = observer.projections() if isinstance(observer, ScatterObserver) else None
    if projections is None:
        return None
    inputs, derivatives = (p._replace(matrix=p.matrix.to(dtype)) for p in projections)
    return inputs, derivatives
