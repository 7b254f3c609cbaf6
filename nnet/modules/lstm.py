"""The unit-by-unit part of LSTMs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nnet.kernels.cells.lstm import lstm_cell, lstm_cell_gradient
from nnet.kernels.cells.lstm_cpu import LIBRARY, NativeLstm, NativeLstmDerivative
from nnet.kernels.native_rows import runs_natively, step_ranges
from nnet.modules.base import Split, StepFunction, StepGradients
from nnet.modules.cells import Cell
from nnet.modules.registry import implements
from nnet.plan.times import Times

SIGMOIDS = (0, 1, 3)
"""Of the five nonlinearities i, f, c, o and m, those that are no tanh."""

CACHED_ELEMENTS = 2**15
"""Elements of a gate that are worked on at a time."""


@implements("LstmNonlinearityComponent")
class LstmNonlinearity(Cell):
    """Gates, cell and output of an LSTM with peepholes; see the specification.

    The derivative is linear in the output's. Its factors, (time, batch, 6, cell_dim), take the
    cell's derivative to those of i, f, c, the output's to that of o, the cell's to the previous
    cell's, and the output's to the cell's; with self-repair, six terms more are added to these.
    Nothing is derived by dropout masks.
    """

    value_sum: Tensor
    deriv_sum: Tensor
    repaired_units: Tensor
    count: Tensor
    self_repair_config: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.weights = self.parameter("weights")
        config = torch.tensor(spec.self_repair_config, dtype=torch.float64).view(2, 5, 1)
        self.register_buffer("self_repair_config", config, persistent=False)
        self.keep_sum("count", spec.count)
        for name, average in (("value_sum", spec.value_avg), ("deriv_sum", spec.deriv_avg)):
            self.keep_sum(name, torch.tensor(average, dtype=torch.float64) * spec.count)
        share = torch.tensor(spec.self_repair_prob, dtype=torch.float64)
        self.keep_sum("repaired_units", share * spec.count * self.cell_dim)

    @property
    def trained(self) -> Tensor:
        return self.weights

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """The inputs of i and f (time, batch, 2, cell_dim), of c and o, c', and dropout masks."""
        c = self.cell_dim
        sizes = (2 * c, c, c, c, 3) if self.spec.use_dropout else (2 * c, c, c, c)
        gates, candidate, gate, previous, *masks = x.split_with_sizes(sizes, -1)
        gates = gates.view(*x.shape[:-1], 2, c)
        return gates, candidate, gate, previous, masks[0] if masks else None

    def forward_in_steps(
        self, x: Sequence[Tensor], out: Tensor, split: Split, *, keep: bool, overwrite: bool
    ) -> StepFunction | None:
        if self.implementation == "triton":
            return None
        native = self.implementation == "native"
        if native and runs_natively(LIBRARY, *x, out, self.weights):
            return _NativeSteps(self, x, out, split, keep, overwrite)
        return None if self.spec.use_dropout else _Steps(self, x, out, split, keep)

    def derivative_in_steps(
        self, forward: StepFunction | None, gradients: StepGradients
    ) -> StepFunction | None:
        alone = all(gradients.alone)
        if isinstance(forward, _NativeSteps):
            native = alone and runs_natively(LIBRARY, gradients.output, *gradients.targets)
            return _NativeDerivative(forward, gradients) if native else None
        if self.storing or not alone or not isinstance(forward, _Steps):
            return None
        return _DerivativeSteps(forward, gradients)

    def _compute_into(self, x: Tensor, out: Tensor) -> None:
        weights = self.weights.detach()
        if self.implementation == "triton":
            out.copy_(lstm_cell(x, weights, implementation="triton"))
            return
        gates, candidate, gate, previous, masks = self._split(x)
        gates = torch.addcmul(gates, previous.unsqueeze(-2), weights[:2]).sigmoid_()
        if masks is not None:
            gates *= masks[..., :2].unsqueeze(-1)
        i, f = gates.unbind(-2)
        cell, output = out.split(self.cell_dim, -1)
        torch.mul(f, previous, out=cell)
        cell.addcmul_(i, candidate.tanh())
        gate = torch.addcmul(gate, cell, weights[2]).sigmoid_()
        if masks is not None:
            gate *= masks[..., 2:]
        torch.tanh(cell, out=output)
        output *= gate

    def _activations(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """The outputs of the five nonlinearities i, f, c, o and m, before dropout."""
        weights = self.weights.detach()
        gates, candidate, gate, previous, _ = self._split(x)
        cell = y.narrow(-1, 0, self.cell_dim)
        gates = torch.addcmul(gates, previous.unsqueeze(-2), weights[:2]).sigmoid_()
        gate = torch.addcmul(gate, cell, weights[2]).sigmoid_()
        return (*gates.unbind(-2), candidate.tanh(), gate, cell.tanh())

    def _in_cache(self, x: Tensor) -> list[slice]:
        """Stretches of time that are so short that intermediate results stay in the cache."""
        steps = max(1, CACHED_ELEMENTS // max(1, x.shape[1] * self.cell_dim))
        return [slice(t, t + steps) for t in range(0, x.shape[0], steps)]

    @torch.no_grad()
    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times | None) -> Tensor:
        if self.implementation != "triton":
            return self.derivative_from(self._factors(x, y), x, gradient)
        repair = self.repair_scales().to(x.dtype) if self.storing else None
        weights = self.weights.detach()
        return lstm_cell_gradient(x, y, weights, gradient, repair, implementation="triton")

    @torch.no_grad()
    def derivative_factors(self, x: Tensor, y: Tensor, times: Times | None) -> Tensor | None:
        return None if self.implementation == "triton" else self._factors(x, y)

    def _factors(self, x: Tensor, y: Tensor) -> Tensor:
        factors = x.new_empty((*x.shape[:-1], 12 if self.storing else 6, self.cell_dim))
        for part in self._in_cache(x):
            self._factors_into(x[part], y[part], factors[part])
        return factors

    def _factors_into(self, x: Tensor, y: Tensor, factors: Tensor) -> None:
        w_ic, w_fc, w_oc = self.weights.detach()
        previous, masks = self._split(x)[3:]
        i, f, g, o, m = activations = self._activations(x, y)
        to_i, to_f, to_c, to_o, to_previous, to_cell = factors[..., :6, :].unbind(-2)
        aten = torch.ops.aten
        aten.sigmoid_backward.grad_input(g, i, grad_input=to_i)
        aten.sigmoid_backward.grad_input(previous, f, grad_input=to_f)
        aten.tanh_backward.grad_input(i, g, grad_input=to_c)
        aten.sigmoid_backward.grad_input(m, o, grad_input=to_o)
        aten.tanh_backward.grad_input(o, m, grad_input=to_cell)
        to_previous.copy_(f)
        if masks is not None:
            for mask, scaled in zip(
                masks.split(1, -1),
                ((to_i, to_c), (to_f, to_previous), (to_o, to_cell)),
                strict=True,
            ):
                for factor in scaled:
                    factor *= mask
        to_previous.addcmul_(to_i, w_ic).addcmul_(to_f, w_fc)
        to_cell.addcmul_(to_o, w_oc)
        if self.storing:
            self._add_repair(torch.stack(activations, dim=-2), factors[..., 6:, :])

    def _add_repair(self, activations: Tensor, terms: Tensor) -> None:
        """Fills in what self-repair adds to the derivatives, in the order of the factors."""
        push = activations.clone()
        push[..., SIGMOIDS, :] = push[..., SIGMOIDS, :] * 2 - 1
        push *= self.repair_scales().to(push.dtype)
        w_ic, w_fc, w_oc = self.weights.detach()
        terms[..., :4, :] = push[..., :4, :]
        terms[..., 4, :] = push[..., 0, :] * w_ic + push[..., 1, :] * w_fc
        terms[..., 5, :] = push[..., 3, :] * w_oc + push[..., 4, :]

    def repair_scales(self) -> Tensor:
        """How strongly each unit is self-repaired, (5, cell_dim)."""
        return self._wrong() * self.self_repair_config[1]

    def _wrong(self) -> Tensor:
        """1 for units whose average derivative is too small, (5, cell_dim)."""
        average = self.deriv_sum / (1.0 + self.count)
        return (average < self.self_repair_config[0]).to(average.dtype)

    def derivative_from(self, factors: Tensor, x: Tensor, gradient: Tensor) -> Tensor:
        c = self.cell_dim
        of_cell, of_output = gradient.split(c, -1)
        of_cell = torch.addcmul(of_cell, factors.select(-2, 5), of_output)
        repaired = factors.shape[-2] > 6
        if repaired:
            of_cell += factors.select(-2, 11)
        result = x.new_empty(x.shape)
        if self.spec.use_dropout:
            result.narrow(-1, 5 * c, 3).zero_()
        blocks = result.narrow(-1, 0, 5 * c).view(*x.shape[:-1], 5, c)
        torch.mul(factors.narrow(-2, 0, 5), of_cell.unsqueeze(-2), out=blocks)
        torch.mul(factors.select(-2, 3), of_output, out=blocks.select(-2, 3))
        if repaired:
            blocks += factors.narrow(-2, 6, 5)
        return result

    def backward(self, x: Tensor, y: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        found = self.derivative(x, y, gradient, None)
        weights = self._weights_gradient(x, y, found) if self.weights.requires_grad else None
        self._store(x, y)
        return found, weights

    @torch.no_grad()
    def parameter_derivatives(
        self, x: Tensor, y: Tensor, gradient: Tensor, times: Times, found: Tensor | None = None
    ) -> Sequence[Tensor | None]:
        if found is None:
            found = self.derivative(x, y, gradient, times)
        result = self._weights_gradient(x, y, found)
        self._store(x, y)
        return [result] if self.weights.requires_grad else []

    def loop_derivatives(
        self, gates: Sequence[Tensor], previous: Tensor, cell: Tensor
    ) -> Sequence[Tensor | None]:
        """The gradients for the trainable parameters, from those for the inputs of i, f and o.

        Args:
            gates: the three gradients, (time, batch, cell_dim).
            previous, cell: c' and c.
        """
        if not self.weights.requires_grad:
            return []
        seen = (previous, previous, cell)
        return [torch.stack([(g * c).sum(dim=(0, 1)) for g, c in zip(gates, seen, strict=True)])]

    def store_rows(self, x: Tensor, y: Tensor) -> None:
        """Stores statistics of rows, if they are stored."""
        self._store(x, y)

    def _weights_gradient(self, x: Tensor, y: Tensor, found: Tensor) -> Tensor:
        """From the derivative by the input to that by the peephole weights, (3, cell_dim)."""
        c = self.cell_dim
        result = torch.zeros_like(self.weights)
        for part in self._in_cache(x):
            of_gates, _, of_output, _, _ = self._split(found[part])
            previous, cell = x[part].narrow(-1, 4 * c, c), y[part].narrow(-1, 0, c)
            result[:2] += (of_gates * previous.unsqueeze(-2)).sum(dim=(0, 1))
            result[2] += (of_output * cell).sum(dim=(0, 1))
        return result

    def _store(self, x: Tensor, y: Tensor) -> None:
        if self.storing:
            self.store(torch.stack(self._activations(x, y), dim=-2))

    def store(self, activations: Tensor) -> None:
        """Adds the five nonlinearities' outputs, (time, batch, 5, cell_dim), to the statistics."""
        count = activations.shape[0] * activations.shape[1]
        value_sum, square_sum = torch.zeros((2, *self.value_sum.shape), dtype=torch.float64)
        for part in self._in_cache(activations):
            values = activations[part].flatten(0, 1)
            value_sum += values.sum(dim=0)
            square_sum += (values * values).sum(dim=0)
        self.store_sums(value_sum, square_sum, count)

    def store_sums(self, value_sum: Tensor, square_sum: Tensor, count: int) -> None:
        """Adds sums over `count` rows of the nonlinearities' outputs and their squares."""
        slope_sum = count - square_sum
        slope_sum[list(SIGMOIDS)] = (value_sum - square_sum)[list(SIGMOIDS)]
        self.add_to_sums(
            repaired_units=self._wrong().sum(dim=1) * count,
            value_sum=value_sum,
            deriv_sum=slope_sum,
            count=count,
        )

    def stored(self) -> dict[str, Any]:
        count = float(self.count)
        return {
            "count": count,
            "value_avg": self.average(self.value_sum, count),
            "deriv_avg": self.average(self.deriv_sum, count),
            "self_repair_prob": self.average(self.repaired_units, count * self.cell_dim),
        }


class _NativeSteps:
    """The cell in a loop, in one pass over memory a step."""

    def __init__(
        self,
        module: LstmNonlinearity,
        x: Sequence[Tensor],
        out: Tensor,
        split: Split,
        keep: bool,
        overwrite: bool,
    ) -> None:
        self.module = module
        self.overwrites = keep and overwrite
        kept = None
        if keep:
            kept = x[0] if overwrite else torch.empty_like(x[0])
        self.native = NativeLstm(x, module.weights.detach(), out, kept)
        self.ranges = step_ranges(out, split(out))

    def __call__(self, number: int) -> None:
        self.native.forward(*self.ranges[number])


class _NativeDerivative:
    """The derivative of a cell in a loop, and that of its peepholes, summed up on the way."""

    def __init__(self, forward: _NativeSteps, gradients: StepGradients) -> None:
        given, targets = gradients.output, gradients.targets
        self.forward = forward
        self.count = given.shape[0] * given.shape[1]
        module = forward.module
        repair = module.repair_scales() if module.storing else None
        self.native = NativeLstmDerivative(forward.native, given, targets, repair)

    def __call__(self, number: int) -> None:
        self.native.backward(*self.forward.ranges[number])

    def parameter_gradients(self) -> Sequence[Tensor | None]:
        """The gradient for the peepholes, (3, cell_dim), after all steps."""
        module, native = self.forward.module, self.native
        if module.storing:
            module.store_sums(native.values, native.squares, self.count)
        if not module.weights.requires_grad:
            return []
        return [native.peepholes.to(module.weights.dtype)]


class _Steps:
    """The cell in a loop: all views are made beforehand, and what the derivative needs is kept."""

    def __init__(
        self, module: LstmNonlinearity, x: Sequence[Tensor], out: Tensor, split: Split, keep: bool
    ) -> None:
        c = module.cell_dim
        gates, previous = x
        self.cell_dim = c
        self.weights = module.weights.detach()
        self.inputs = split(gates[..., : 2 * c].unflatten(-1, (2, c)))
        self.candidates = split(gates[..., 2 * c : 3 * c])
        self.to_output = split(gates[..., 3 * c : 4 * c])
        self.previous = split(previous)
        self.repeated = split(previous.unsqueeze(-2))
        self.cells, self.outputs = split(out[..., :c]), split(out[..., c:])
        self.peepholes, self.w_oc = self.weights[:2], self.weights[2]
        self.kept: list[tuple[Tensor, ...]] = []
        if keep:
            both = out.new_empty((*out.shape[:-1], 2, c))
            rest = [out.new_empty((*out.shape[:-1], c)) for _ in range(3)]
            lists = (split(part) for part in (both, *both.unbind(-2), *rest))
            self.kept = list(zip(*lists, strict=True))
        self._scratch: dict[int, tuple[Tensor, ...]] = {}

    def _activations(self, number: int) -> tuple[Tensor, ...]:
        """Where the gates i and f, each of them, the tanh of c, o and m of a step go."""
        if self.kept:
            return self.kept[number]
        cell = self.cells[number]
        if len(cell) not in self._scratch:
            gates = cell.new_empty((*cell.shape[:-1], 2, self.cell_dim))
            rest = [cell.new_empty(cell.shape) for _ in range(3)]
            self._scratch[len(cell)] = (gates, *gates.unbind(-2), *rest)
        return self._scratch[len(cell)]

    def __call__(self, number: int) -> None:
        cell, output = self.cells[number], self.outputs[number]
        gates, i, f, candidate, o, m = self._activations(number)
        torch.addcmul(self.inputs[number], self.repeated[number], self.peepholes, out=gates)
        gates.sigmoid_()
        torch.mul(f, self.previous[number], out=cell)
        torch.tanh(self.candidates[number], out=candidate)
        cell.addcmul_(i, candidate)
        torch.addcmul(self.to_output[number], cell, self.w_oc, out=o).sigmoid_()
        torch.tanh(cell, out=m)
        torch.mul(o, m, out=output)


class _DerivativeSteps:
    """The derivative of a cell in a loop, and that of its peepholes, summed up on the way."""

    def __init__(self, forward: _Steps, gradients: StepGradients) -> None:
        gradient, split, c = gradients.output, gradients.split, forward.cell_dim
        self.forward = forward
        self.of_cells, self.of_outputs = split(gradient[..., :c]), split(gradient[..., c:])
        to_gates, to_previous = gradients.targets
        self.targets = [split(part) for part in (*to_gates.split(c, dim=-1), to_previous)]
        widest = max(len(rows) for rows in self.of_cells)
        shape = (widest, gradient.shape[1], c)
        self.sums = gradient.new_zeros((3, *shape))
        self.scratch = gradient.new_empty((2, *shape))

    def __call__(self, number: int) -> None:
        forward = self.forward
        w_ic, w_fc, w_oc = forward.weights
        aten = torch.ops.aten
        slope, tanh_slope = aten.sigmoid_backward.grad_input, aten.tanh_backward.grad_input
        to_i, to_f, to_c, to_o, to_previous = (part[number] for part in self.targets)
        _, i, f, candidate, o, m = forward.kept[number]
        of_output, previous = self.of_outputs[number], forward.previous[number]
        one, of_cell = self.scratch[:, : len(i)].unbind()
        sum_i, sum_f, sum_o = self.sums[:, : len(i)].unbind()
        slope(torch.mul(of_output, m, out=one), o, grad_input=to_o)
        tanh_slope(torch.mul(of_output, o, out=one), m, grad_input=of_cell)
        of_cell.add_(self.of_cells[number]).addcmul_(to_o, w_oc)
        slope(torch.mul(of_cell, candidate, out=one), i, grad_input=to_i)
        slope(torch.mul(of_cell, previous, out=one), f, grad_input=to_f)
        tanh_slope(torch.mul(of_cell, i, out=one), candidate, grad_input=to_c)
        torch.mul(of_cell, f, out=to_previous)
        to_previous.addcmul_(to_i, w_ic).addcmul_(to_f, w_fc)
        sum_i.addcmul_(to_i, previous)
        sum_f.addcmul_(to_f, previous)
        sum_o.addcmul_(to_o, forward.cells[number])

    def parameter_gradients(self) -> Sequence[Tensor | None]:
        """The gradient for the peepholes, (3, cell_dim), after all steps."""
        return [self.sums.sum(dim=(1, 2))]
