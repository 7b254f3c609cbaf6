"""The vectors of a minibatch that natural gradient looks at, in the pieces that they come in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnet.kernels.affine.terms import ScaledRows


class Vectors:
    """Vectors that stand side by side in pieces: a minibatch's spliced input rows.

    Args:
        rows: pieces `(count or 1, batch, dim)` and their scales; one of a single time stands for
            all times.
        ones: whether a last column of ones belongs to them, for a bias.
    """

    def __init__(self, rows: Sequence[ScaledRows], ones: bool = False) -> None:
        self._rows = rows
        self._ones = ones
        self._times = max(piece.shape[0] for piece, _ in rows)
        self.count = self._times * rows[0][0].shape[1]
        self.dim = sum(piece.shape[-1] for piece, _ in rows) + ones

    def power(self) -> Tensor:
        """The sum of squares, float64."""
        total = torch.zeros((), dtype=torch.float64, device=self._rows[0][0].device)
        for piece, scale in self._rows:
            norms = torch.linalg.vector_norm(piece, dim=-1).float()
            repeats = self._times // piece.shape[0]
            total += norms.square().sum(dtype=torch.float64) * (scale * scale * repeats)
        return total + self.count * self._ones

    def projected(self, matrix: Tensor) -> Tensor:
        """Each vector times `matrix` (rank, dim) transposed: (count, rank)."""
        rank = matrix.shape[0]
        batch = self._rows[0][0].shape[1]
        start = matrix[:, -1] if self._ones else matrix.new_zeros(rank)
        wide = torch.promote_types(self._rows[0][0].dtype, matrix.dtype)
        result = start.to(wide).expand(self.count, rank).clone()
        for (piece, scale), block in zip(self._rows, self._blocks(matrix), strict=True):
            flat = _flat(piece)
            if piece.shape[0] < self._times:
                result.view(self._times, batch, rank).add_(_product(flat, block), alpha=scale)
            elif flat.dtype == wide:
                result.addmm_(flat, block.t().to(wide), alpha=scale)
            else:
                result.add_(_product(flat, block), alpha=scale)
        return result.float()

    def weighted(self, weights: Tensor) -> Tensor:
        """The sums of the vectors by each column of `weights` (count, rank): (rank, dim)."""
        batch = self._rows[0][0].shape[1]
        parts = []
        for piece, scale in self._rows:
            own = weights
            if piece.shape[0] < self._times:
                own = weights.view(self._times, batch, -1).sum(0)
            parts.append(_sums(own, _flat(piece)) * scale)
        if self._ones:
            parts.append(weights.sum(0).unsqueeze(1))
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def scatter(self) -> Tensor:
        """The sum of outer products, (dim, dim)."""
        pieces = [
            (p * s).expand(self._times, -1, -1).reshape(self.count, -1).float()
            for p, s in self._rows
        ]
        if self._ones:
            pieces.append(pieces[0].new_ones((self.count, 1)))
        whole = torch.cat(pieces, dim=1)
        return whole.t() @ whole

    def _blocks(self, matrix: Tensor) -> Sequence[Tensor]:
        dims = [piece.shape[-1] for piece, _ in self._rows]
        return matrix[:, : sum(dims)].split(dims, dim=1)


def _flat(piece: Tensor) -> Tensor:
    return piece.squeeze(1) if piece.shape[1] == 1 else piece.reshape(-1, piece.shape[-1])


def _product(rows: Tensor, matrix: Tensor) -> Tensor:
    """rows matrix' in the wider of their types.

    Where the rows are narrower (bfloat16), the matrix is the sum of two of their type: rounded to
    one, its own rows would not be orthogonal enough to each other.
    """
    wide = torch.promote_types(rows.dtype, matrix.dtype)
    if rows.dtype == wide:
        return rows @ matrix.t().to(wide)
    high = matrix.to(rows.dtype)
    low = (matrix - high.to(wide)).to(rows.dtype)
    first, second = (rows @ torch.cat((high, low)).t()).split(len(matrix), dim=1)
    return first.to(wide) + second


BLOCK = 1024
"""Rows that are converted at a time, so that they stay in a cache."""


def _sums(weights: Tensor, rows: Tensor) -> Tensor:
    """weights' rows, float32, with sums that are not rounded to the type of the rows.

    A sum over frames that is rounded to bfloat16 is not the one that the other sums belong to, and
    what is small beside the largest of them would be lost.
    """
    if rows.dtype not in (torch.bfloat16, torch.float16):
        return (weights.t().to(rows.dtype) @ rows).float()
    total = weights.new_zeros((weights.shape[1], rows.shape[1]))
    for own, block in zip(weights.split(BLOCK), rows.split(BLOCK), strict=True):
        total.addmm_(own.t(), block.float())
    return total
