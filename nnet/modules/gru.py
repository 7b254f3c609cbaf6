"""The parts of gated recurrent units that feed back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from nnet.kernels.affine.terms import Observer
from nnet.kernels.cells.gru import gru_cell, gru_cell_gradient
from nnet.kernels.cells.gru_cpu import LIBRARY
from nnet.kernels.native_rows import runs_natively
from nnet.modules.base import Split, StepFunction, StepGradients
from nnet.modules.cells import Cell
from nnet.modules.gru_steps import NativeResetSteps, NativeSteps, RepairedSteps
from nnet.modules.registry import implements
from nnet.modules.statistics import REPAIR_PROBABILITY, chance
from nnet.plan.times import Times

Block = TypeVar("Block")


class AnyGruNonlinearity(Cell):
    """h = tanh(U x + feedback), c = (1 - z) h + z c'; subclasses define the feedback.

    Factors of the derivative, (time, batch, 3, cell_dim), take the derivative of c to that before
    the tanh, the derivative of h to it, and the derivative of c to that of z. As in nnet3,
    statistics of the tanh are stored in a random half of the minibatches (in a loop, of the steps),
    and saturated units repaired where they are.
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

    def fed_rows(self, x: Tensor) -> Tensor:
        """What w_h is multiplied with."""
        raise NotImplementedError

    def weights_gradient(self, rows: Tensor, inner: Tensor) -> Tensor:
        """The derivative by w_h, from what it is multiplied with and that before the tanh.

        Both are shown to observers.
        """
        raise NotImplementedError

    def ordered(self, blocks: Sequence[Block]) -> list[Block]:
        """From the specification's `input_blocks` to the order of `GruParts`."""
        raise NotImplementedError

    def native_steps(self, x: Sequence[Tensor], out: Tensor, split: Split) -> NativeSteps:
        """The cell in a loop in C++; arguments as for `forward_in_steps`."""
        raise NotImplementedError

    def forward_in_steps(
        self, x: Sequence[Tensor], out: Tensor, split: Split, *, keep: bool, overwrite: bool
    ) -> StepFunction | None:
        if self.implementation == "native" and runs_natively(LIBRARY, *x, out, self.w_h):
            return self.native_steps(x, out, split)
        return RepairedSteps(self, x, out, split) if keep and self.storing else None

    def derivative_in_steps(
        self, forward: StepFunction | None, gradients: StepGradients
    ) -> StepFunction | None:
        if isinstance(forward, RepairedSteps):
            return forward.derivative(gradients)
        rows = gradients.output, *gradients.targets
        if not isinstance(forward, NativeSteps) or not runs_natively(LIBRARY, *rows):
            return None
        return forward.derivative(gradients)

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
        return self.both_derivatives(x, y, gradient)[0]

    def both_derivatives(self, x: Tensor, y: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The derivatives by the input and before the tanh; stores statistics and repairs units."""
        if self.implementation == "triton":
            of_z, inner, of_previous = self._cell_gradient(x, y, gradient)
            inner = self._repaired(y, inner)
            return self._spread_all(x, of_z, inner, of_previous), inner
        factors = self._factors(x, y)
        inner = self._repaired(y, self._inner(factors, gradient))
        return self._completed(factors, x, gradient, inner), inner

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
        if self.implementation == "triton" or self.storing:
            return None
        return self._factors(x, y)

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
        found, inner = self.both_derivatives(x, y, gradient)
        wanted = self.w_h.requires_grad
        return found, self.weights_gradient(self.fed_rows(x), inner) if wanted else None

    @torch.no_grad()
    def parameter_derivatives(
        self, x: Tensor, y: Tensor, gradient: Tensor, times: Times, found: Tensor | None = None
    ) -> Sequence[Tensor | None]:
        if not self.w_h.requires_grad:
            return []
        if self.implementation == "triton":
            inner = self._cell_gradient(x, y, gradient)[1]
        else:
            inner = self._inner(self._factors(x, y), gradient)
        return [self.weights_gradient(self.fed_rows(x), inner)]

    def _repaired(self, y: Tensor, inner: Tensor) -> Tensor:
        """The derivative before the tanh with self-repair; stores statistics before."""
        h = y[..., : self.cell_dim]
        repair = self.repair_scales(h)
        return inner if repair is None else inner + h * repair

    @torch.no_grad()
    def repair_scales(self, h: Tensor) -> Tensor | None:
        """Stores statistics of h in half of the cases, and gives then the strength of self-repair.

        That is (cell_dim,): what has to be added to the derivative before the tanh, by h.
        """
        if not self.storing or chance() > REPAIR_PROBABILITY:
            return None
        rows = h.flatten(0, 1)
        slopes = 1 - rows * rows
        self.add_to_sums(value_sum=rows.sum(0), deriv_sum=slopes.sum(0), count=len(rows))
        wrong = (self.deriv_sum < self.spec.self_repair_threshold * self.count).to(h.dtype)
        self.add_to_sums(repaired_units=wrong.sum())
        return wrong * (self.spec.self_repair_scale / REPAIR_PROBABILITY)

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

    def ordered(self, blocks: Sequence[Block]) -> list[Block]:
        z, r, inner, previous, *projected = blocks
        return [z, inner, previous, r, *(projected or [previous])]

    def native_steps(self, x: Sequence[Tensor], out: Tensor, split: Split) -> NativeSteps:
        return NativeResetSteps(self, x, out, split)

    def _state(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The gate r and the state s' that feeds back."""
        c, size = self.cell_dim, self.recurrent_dim
        return x[..., c : c + size], x[..., -size:]

    def fed_rows(self, x: Tensor) -> Tensor:
        gate, state = self._state(x)
        return gate * state

    def _feedback(self, x: Tensor) -> Tensor:
        return torch.matmul(self.fed_rows(x), self.w_h.detach().to(x.dtype).t())

    def _spread(self, x: Tensor, inner: Tensor, result: Tensor) -> None:
        gate, state = self._state(x)
        of_gate, of_state = self._state(result)
        product = torch.matmul(inner, self.w_h.detach().to(inner.dtype))
        torch.mul(product, state, out=of_gate)
        if self.spec.is_projected:
            torch.mul(product, gate, out=of_state)
        else:
            of_state.addcmul_(product, gate)

    def weights_gradient(self, rows: Tensor, inner: Tensor) -> Tensor:
        if self.observer is not None:
            self.observer([(rows, 1.0)], inner)
        return torch.matmul(inner.flatten(0, 1).t(), rows.flatten(0, 1))


@implements("OutputGruNonlinearityComponent")
class OutputGruNonlinearity(AnyGruNonlinearity):
    """The feedback is w_h c', unit by unit."""

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c = self.cell_dim
        return x[..., :c], x[..., c : 2 * c], x[..., 2 * c :]

    def ordered(self, blocks: Sequence[Block]) -> list[Block]:
        return list(blocks)

    def native_steps(self, x: Sequence[Tensor], out: Tensor, split: Split) -> NativeSteps:
        return NativeSteps(self, x, out, split)

    def fed_rows(self, x: Tensor) -> Tensor:
        return self._parts(x)[2]

    def _feedback(self, x: Tensor) -> Tensor:
        return self.fed_rows(x) * self.w_h.detach()

    def _spread(self, x: Tensor, inner: Tensor, result: Tensor) -> None:
        self._parts(result)[2].addcmul_(inner, self.w_h.detach())

    def weights_gradient(self, rows: Tensor, inner: Tensor) -> Tensor:
        products = (inner * rows).flatten(0, 1)
        if "w_h" in self.row_observers:
            self.row_observers["w_h"](products)
        return products.sum(dim=0)
