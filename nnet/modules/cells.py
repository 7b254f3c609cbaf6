"""What the unit-by-unit parts of LSTMs and GRUs share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nnet.modules.statistics import SumsModule
from nnet.plan.times import Times


class Cell(SumsModule):
    """Rows of gates and states to rows of twice `cell_dim` columns, with a derivative of its own.

    Subclasses define `trained`, `_compute_into`, `backward`, and for loops `derivative_factors` and
    `derivative_from`.
    """

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.cell_dim = int(spec.cell_dim)

    @property
    def trained(self) -> Tensor:
        """Its trainable parameter."""
        raise NotImplementedError

    def _compute_into(self, x: Tensor, out: Tensor) -> None:
        """Outputs `(time, batch, 2 cell_dim)` for rows `x`."""
        raise NotImplementedError

    def backward(self, x: Tensor, y: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        """The gradients for `x` and, if that is wanted, `trained`; statistics are stored."""
        raise NotImplementedError

    def computed(self, x: Tensor) -> Tensor:
        """The outputs, without a graph."""
        out = x.new_empty((*x.shape[:-1], 2 * self.cell_dim))
        self._compute_into(x, out)
        return out

    def forward(self, x: Tensor, times: Times) -> Tensor:
        if torch.is_grad_enabled() and (x.requires_grad or self.trained.requires_grad):
            result: Tensor = _CellFunction.apply(x, self.trained, self)
            return result
        return self.computed(x)

    def forward_into(self, x: Tensor, times: Times, out: Tensor) -> None:
        self._compute_into(x, out)

    @torch.no_grad()
    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        factors = self.derivative_factors(x, y, times)
        assert factors is not None
        return self.derivative_from(factors, x, gradient)


class _CellFunction(Function):
    """A cell's own derivative, over all rows at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, cell: Cell) -> Tensor:
        y = cell.computed(x)
        ctx.save_for_backward(x, y, weights)
        ctx.cell = cell
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, y, _ = ctx.saved_tensors
        return (*ctx.cell.backward(x, y, gradient), None)
