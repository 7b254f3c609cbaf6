"""The parts of gated recurrent units that feed back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nnet.kernels.gru import gru_cell, gru_cell_gradient
from nnet.kernels.spliced_affine import Observer
from nnet.modules.cells import Cell
from nnet.modules.registry import implements
from nnet.modules.statistics import REPAIR_PROBABILITY, chance
from nnet.plan.times import Times


class AnyGruNonlinearity(Cell):
    """h = tanh(U x + feedback), c = (1 - z) h + z c'; subclasses define the feedback.

    Factors of the derivative, (time, batch, 3, cell_dim), take the derivative of c to that before
    the tanh, the derivative of h to it, and the derivative of c to that of z. As in nnet3,
    statistics of the tanh are stored in a random half of the minibatches, and saturated units
    repaired where they are.
    """

    value_sum: Tensor
    deriv_sum: Tensor
    repaired_units: Tensor
    count: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.w_h = self.parameter("w_h")
        self.keep_sum("count", spec.count)
        self.keep_sum("repaired_units", spec.self_repair_total)
        for name, average in (("value_sum", spec.value_avg), ("deriv_sum", spec.deriv_avg)):
            self.keep_sum(name, torch.tensor(average, dtype=torch.float64) * spec.count)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z, U x and c', each (time, batch, cell_dim)."""
        raise NotImplementedError

    def _feedback(self, x: Tensor) -> Tensor:
        """What is added to U x."""
        raise NotImplementedError

    def _spread(self, x: Tensor, inner: Tensor, result: Tensor) -> None:
        """Puts the derivative before the tanh where it goes to, except to U x."""
        raise NotImplementedError

    def weights_gradient(self, x: Tensor, inner: Tensor) -> Tensor:
        """The derivative by the weights, from that before the tanh; shown to observers."""
        raise NotImplementedError

    @property
    def trained(self) -> Tensor:
        return self.w_h

    def _compute_into(self, x: Tensor, out: Tensor) -> None:
        h, cell = out[..., : self.cell_dim], out[..., self.cell_dim :]
        z, inner, previous = self._parts(x)
        if self.implementation == "triton":
            feedback = self._feedback(x)
            out.copy_(gru_cell(z, inner, previous, feedback, implementation="triton"))
            return
        torch.add(inner, self._feedback(x), out=h)
        h.tanh_()
        torch.lerp(h, previous, z, out=cell)

    @torch.no_grad()
    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        if self.implementation != "triton":
            return super().derivative(x, y, gradient, times)
        of_z, inner, of_previous = self._cell_gradient(x, y, gradient)
        return self._spread_all(x, of_z, inner, of_previous)

    def _cell_gradient(
        self, x: Tensor, y: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """By our kernel: the derivatives by z, before the tanh, and by c' without the feedback."""
        z, _, previous = self._parts(x)
        return gru_cell_gradient(z, previous, y, gradient, implementation="triton")

    def _spread_all(self, x: Tensor, to_z: Tensor, inner: Tensor, to_previous: Tensor) -> Tensor:
        """The derivative by the input, from what `_cell_gradient` gave."""
        result = torch.empty_like(x, memory_format=torch.contiguous_format)
        of_z, of_inner, of_previous = self._parts(result)
        of_z.copy_(to_z)
        of_previous.copy_(to_previous)
        of_inner.copy_(inner)
        self._spread(x, inner, result)
        return result

    @torch.no_grad()
    def derivative_factors(self, x: Tensor, y: Tensor, times: Times | None) -> Tensor | None:
        return None if self.implementation == "triton" else self._factors(x, y)

    def _factors(self, x: Tensor, y: Tensor) -> Tensor:
        z, _, previous = self._parts(x)
        h = y[..., : self.cell_dim]
        factors = x.new_empty((*x.shape[:-1], 3, self.cell_dim))
        from_cell, from_h, to_z = factors.unbind(-2)
        torch.mul(h, -h, out=from_h)
        from_h += 1
        torch.mul(from_h, 1 - z, out=from_cell)
        torch.sub(previous, h, out=to_z)
        return factors

    def derivative_from(self, factors: Tensor, x: Tensor, gradient: Tensor) -> Tensor:
        return self._completed(factors, x, gradient, self._inner(factors, gradient))

    def _inner(self, factors: Tensor, gradient: Tensor) -> Tensor:
        """The derivative before the tanh."""
        of_h, of_cell = gradient[..., : self.cell_dim], gradient[..., self.cell_dim :]
        return (of_cell * factors[..., 0, :]).addcmul_(of_h, factors[..., 1, :])

    def _completed(self, factors: Tensor, x: Tensor, gradient: Tensor, inner: Tensor) -> Tensor:
        """The derivative by the input, from that before the tanh."""
        of_cell = gradient[..., self.cell_dim :]
        result = torch.empty_like(x, memory_format=torch.contiguous_format)
        of_z, of_inner, of_previous = self._parts(result)
        torch.mul(of_cell, factors[..., 2, :], out=of_z)
        torch.mul(of_cell, self._parts(x)[0], out=of_previous)
        of_inner.copy_(inner)
        self._spread(x, inner, result)
        return result

    def backward(self, x: Tensor, y: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.implementation == "triton":
            of_z, inner, of_previous = self._cell_gradient(x, y, gradient)
            inner = self._repaired(y, inner)
            weights = self.weights_gradient(x, inner) if self.w_h.requires_grad else None
            return self._spread_all(x, of_z, inner, of_previous), weights
        factors = self._factors(x, y)
        inner = self._repaired(y, self._inner(factors, gradient))
        weights = self.weights_gradient(x, inner) if self.w_h.requires_grad else None
        return self._completed(factors, x, gradient, inner), weights

    @torch.no_grad()
    def parameter_derivatives(
        self, x: Tensor, y: Tensor, gradient: Tensor, times: Times, found: Tensor | None = None
    ) -> Sequence[Tensor | None]:
        if self.implementation == "triton":
            inner = self._cell_gradient(x, y, gradient)[1]
        else:
            inner = self._inner(self._factors(x, y), gradient)
        inner = self._repaired(y, inner)
        return [self.weights_gradient(x, inner)] if self.w_h.requires_grad else []

    @torch.no_grad()
    def _repaired(self, y: Tensor, inner: Tensor) -> Tensor:
        """The derivative before the tanh with self-repair; stores statistics before."""
        if not self.storing or chance() > REPAIR_PROBABILITY:
            return inner
        h = y[..., : self.cell_dim]
        rows = h.flatten(0, 1)
        slopes = 1 - rows * rows
        self.add_to_sums(value_sum=rows.sum(0), deriv_sum=slopes.sum(0), count=len(rows))
        wrong = (self.deriv_sum < self.spec.self_repair_threshold * self.count).to(h.dtype)
        self.add_to_sums(repaired_units=wrong.sum())
        return inner + h * (wrong * (self.spec.self_repair_scale / REPAIR_PROBABILITY))

    def stored(self) -> dict[str, Any]:
        count = float(self.count)
        return {
            "count": count,
            "self_repair_total": float(self.repaired_units),
            "value_avg": self.average(self.value_sum, count),
            "deriv_avg": self.average(self.deriv_sum, count),
        }


@implements("GruNonlinearityComponent")
class GruNonlinearity(AnyGruNonlinearity):
    """The feedback is w_h (s' r); the observer sees s' r and the derivative before the tanh."""

    observer: Observer | None = None

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.recurrent_dim = int(spec.recurrent_dim)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c, start = self.cell_dim, self.cell_dim + self.recurrent_dim
        return x[..., :c], x[..., start : start + c], x[..., start + c : start + 2 * c]

    def _state(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The gate r and the state s' that feeds back."""
        c, size = self.cell_dim, self.recurrent_dim
        return x[..., c : c + size], x[..., -size:]

    def _feedback(self, x: Tensor) -> Tensor:
        gate, state = self._state(x)
        return torch.matmul(gate * state, self.w_h.detach().to(x.dtype).t())

    def _spread(self, x: Tensor, inner: Tensor, result: Tensor) -> None:
        gate, state = self._state(x)
        of_gate, of_state = self._state(result)
        product = torch.matmul(inner, self.w_h.detach().to(inner.dtype))
        torch.mul(product, state, out=of_gate)
        if self.spec.is_projected:
            torch.mul(product, gate, out=of_state)
        else:
            of_state.addcmul_(product, gate)

    def weights_gradient(self, x: Tensor, inner: Tensor) -> Tensor:
        gate, state = self._state(x)
        rows = gate * state
        if self.observer is not None:
            self.observer([(rows, 1.0)], inner)
        return torch.matmul(inner.flatten(0, 1).t(), rows.flatten(0, 1))


@implements("OutputGruNonlinearityComponent")
class OutputGruNonlinearity(AnyGruNonlinearity):
    """The feedback is w_h c', unit by unit."""

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c = self.cell_dim
        return x[..., :c], x[..., c : 2 * c], x[..., 2 * c :]

    def _feedback(self, x: Tensor) -> Tensor:
        return self._parts(x)[2] * self.w_h.detach()

    def _spread(self, x: Tensor, inner: Tensor, result: Tensor) -> None:
        self._parts(result)[2].addcmul_(inner, self.w_h.detach())

    def weights_gradient(self, x: Tensor, inner: Tensor) -> Tensor:
        rows = (inner * self._parts(x)[2]).flatten(0, 1)
        if "w_h" in self.row_observers:
            self.row_observers["w_h"](rows)
        return rows.sum(dim=0)
