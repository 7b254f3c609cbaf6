"""Sums of rows, and of their squares, over windows of time: what nnet3's StatisticsExtraction and
StatisticsPooling are made of.

The torch code below is the reference; the kernels are in `nnet.kernels.windows.gpu`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nnet.kernels.implementation import Implementation, triton_file, uses_triton


@dataclass(frozen=True, eq=False)
class Members:
    """For each window the stored rows in it: `rows[ends[i]]` up to `rows[ends[i + 1]]` (exclusive).

    Attributes:
        ends: int64 `(windows + 1,)`, on the CPU.
        rows: int64, in order.
        stored: how many rows there are.
    """

    ends: Tensor
    rows: Tensor
    stored: int

    @property
    def windows(self) -> int:
        return len(self.ends) - 1

    @cached_property
    def owners(self) -> Tensor:
        """For each element of `rows` its window."""
        return torch.repeat_interleave(torch.arange(self.windows), self.ends.diff())

    @cached_property
    def transposed(self) -> Members:
        """For each stored row the windows that it is in."""
        order = torch.argsort(self.rows, stable=True)
        ends = torch.searchsorted(self.rows[order], torch.arange(self.stored + 1))
        return Members(ends, self.owners[order], self.windows)


def window_sums(
    x: Tensor,
    members: Members,
    *,
    squares: bool = False,
    implementation: Implementation = "reference",
) -> Tensor:
    """Sums over the windows, in float64.

    Args:
        x: `(stored times, batch, dim)`.
        squares: behind the sums, those of the squares.

    Returns:
        `(windows, batch, dim)`, or `(windows, batch, 2 dim)` with squares.
    """
    if uses_triton(implementation, x):
        sums: Tensor = _WindowSums.apply(x, members, squares)
        return sums
    wide = x.double()
    powers = torch.cat((wide, wide.square()), dim=-1) if squares else wide
    zeros = powers.new_zeros((members.windows, *powers.shape[1:]))
    taken = powers.index_select(0, members.rows.to(x.device))
    return zeros.index_add(0, members.owners.to(x.device), taken)


class _WindowSums(Function):
    """Sums over windows by Triton kernels, with a derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, members: Members, squares: bool) -> Tensor:
        forward = triton_file("windows.gpu").forward
        ctx.save_for_backward(x)
        ctx.members, ctx.squares = members, squares
        result: Tensor = forward(x, members.ends, members.rows, squares)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        backward = triton_file("windows.gpu").backward
        (x,) = ctx.saved_tensors
        readers = ctx.members.transposed
        of_input = backward(x, gradient.contiguous(), readers.ends, readers.rows, ctx.squares)
        return of_input, None, None
