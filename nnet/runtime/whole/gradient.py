"""The derivative of a loop that one kernel runs: what it runs on, and gradients from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from nnet.kernels.affine.spliced import affine_gradients
from nnet.kernels.affine.terms import Term, column_sums
from nnet.kernels.recurrence.gradient import Both
from nnet.kernels.recurrence.loop import Loop as KernelLoop
from nnet.kernels.recurrence.program import Recurrence
from nnet.kernels.recurrence.run import buffers_of, sums_over_rows
from nnet.modules.base import ComponentModule
from nnet.modules.gradient import BackpropTruncation
from nnet.modules.gru import AnyGruNonlinearity
from nnet.modules.lstm import LstmNonlinearity
from nnet.modules.statistics import Nonlinearity
from nnet.plan import ir
from nnet.plan.ir import Value
from nnet.runtime.whole.repair import store_gradients, store_steps
from nnet.runtime.whole.rows import Lanes, WholeRun, operand_lanes


class Gradients:
    """The derivative of one run.

    Args:
        rows, forward: the run.
        both: its programs.
        given: derivatives with respect to the visible values, `(time, batch, dim)`.
    """

    def __init__(
        self, rows: WholeRun, forward: KernelLoop, both: Both, given: Sequence[Tensor | None]
    ) -> None:
        self.rows, self.loop, self.recurrence = rows, rows.loop, rows.loop.recurrence
        self.program: Recurrence = both.backward.program
        self.values = Lanes(rows, both.forward.program, both.forward.values, forward)
        known = {**forward.buffers, **rows.boundaries(), **self._given(given)}
        known |= self._unwritten(forward.rows, known)
        self.backward = KernelLoop(
            forward.rows,
            forward.width,
            not forward.reverse,
            buffers_of(self.program, forward.rows, known),
            forward.matrices,
            {**forward.vectors, **self._repairs(forward)},
        )
        self.gradients = Lanes(rows, self.program, both.backward.values, self.backward)
        self.of_parameters: dict[int, Tensor] = {}

    def _given(self, given: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """The derivatives with respect to visible values, in memory that may be written over."""
        buffers = {}
        for number, (value, gradient) in enumerate(zip(self.loop.visible, given, strict=True)):
            shape = (self.rows.count, self.rows.batch, self.loop.plan.dim(value))
            of_rows = torch.zeros(shape, device=self.rows.device)
            if gradient is not None:
                of_rows.copy_(gradient)
            buffers[f"of visible {number}"] = of_rows.view(-1, shape[-1])
        return buffers

    def _unwritten(self, rows: int, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Zeros for gradients of which the program does not write all columns."""
        written: dict[str, int] = {}
        for value, place in self.program.stores:
            written[place.buffer] = written.get(place.buffer, 0) + self.program.dim(value)
        dims = {
            self._of_gates(v): self.loop.affine(v).linear.shape[0] for v in self.recurrence.affines
        }
        for name, (value, _, _) in self.recurrence.outer.items():
            dims[f"of {name}"] = self.loop.plan.dim(value)
        return {
            name: torch.zeros((rows, dim), device=self.rows.device)
            for name, dim in dims.items()
            if written.get(name) != dim
        }

    def _repairs(self, forward: KernelLoop) -> dict[int, Tensor]:
        """The vectors of self-repair; stores the outputs of nonlinearities."""
        scales: dict[Value, Tensor] = {}
        repairs: dict[int, Tensor] = {}
        for number, (value, unit, first) in self.recurrence.repairs.items():
            module = self.loop.modules[value]
            if value not in scales and getattr(module, "storing", False):
                scales[value] = self._scales(module, value, forward)
            dim = self.program.vectors.get(number)
            if dim is not None:
                whole = scales[value]
                part = whole[unit : unit + 1] if isinstance(module, LstmNonlinearity) else whole
                repairs[number] = part[:, first : first + dim].contiguous()
        return repairs

    def _scales(self, module: ComponentModule, value: Value, forward: KernelLoop) -> Tensor:
        if isinstance(module, LstmNonlinearity):
            return module.repair_scales().float()
        assert isinstance(module, Nonlinearity | AnyGruNonlinearity)
        (lanes,) = self.recurrence.results[value]
        return store_steps(module, self._steps(self.values(lanes)))

    def _steps(self, rows: Tensor) -> list[Tensor]:
        """Rows `(time, batch, dim)` of each step, in the order of the derivative."""
        flat, loop = rows.flatten(0, 1), self.values.loop
        backward = KernelLoop(loop.rows, loop.width, not loop.reverse, {}, {}, {})
        return [flat[part] for part in backward.steps()]

    def for_inputs(self, needs: Sequence[bool]) -> list[Tensor | None]:
        """The derivatives with respect to `WholeLoop.inputs`; finds those of affine components."""
        sources = self.rows.sources
        of_inputs: list[Tensor | None] = [None] * len(sources)
        for value in self.recurrence.affines:
            for number, gradient in enumerate(self._of_affine(value, needs[: len(sources)])):
                if gradient is not None:
                    before = of_inputs[number]
                    of_inputs[number] = gradient if before is None else before + gradient
        for name, needed in zip(self.recurrence.outer, needs[len(sources) :], strict=True):
            gradient = self.rows.by_time(self.backward.buffers[f"of {name}"]) if needed else None
            of_inputs.append(gradient)
        return of_inputs

    def _of_gates(self, value: Value) -> str:
        """The buffer of the derivative with respect to an affine operation."""
        return f"of {self.recurrence.buffer('gates', value)}"

    def _of_affine(self, value: Value, needs: Sequence[bool]) -> list[Tensor | None]:
        """The derivatives with respect to what an affine operation reads outside."""
        module = self.loop.affine(value)
        gradient = self.rows.by_time(self.backward.buffers[self._of_gates(value)])
        outer = iter(self.loop.outer_terms(value))
        sources: list[Tensor] = [source.detach() for source in self.rows.sources]
        terms: list[Term] = []
        for rows in self.loop.terms(value):
            if rows.value not in self.recurrence.lanes:
                terms.append(next(outer)[0])
                continue
            lanes = self.values(self.recurrence.lanes[rows.value])
            where = (len(sources), 0, 1, self.rows.count, None)
            terms.append(Term(*where, rows.offset, rows.dim, rows.scale))
            sources.append(lanes)
        inner = [False] * (len(sources) - len(needs))
        weight, of_sources = affine_gradients(
            sources,
            terms,
            module.linear.detach(),
            gradient,
            [*needs, *inner],
            module.linear.requires_grad,
            module.observer,
            implementation=module.implementation,
        )
        self._add(module.linear, weight)
        if module.bias is not None and module.bias.requires_grad:
            self._add(module.bias, column_sums(gradient))
        return of_sources[: len(needs)]

    def _add(self, parameter: Tensor, gradient: Tensor | None) -> None:
        if gradient is not None:
            before = self.of_parameters.get(id(parameter))
            self.of_parameters[id(parameter)] = gradient if before is None else before + gradient

    def for_parameters(self) -> dict[int, Tensor]:
        """The derivatives with respect to parameters, by identity; stores statistics of
        components."""
        for value in self.recurrence.cells:
            module = self.loop.modules[value]
            parameters = [p for p in module.parameters() if p.requires_grad]
            for parameter, gradient in zip(parameters, self._of_cell(value, module), strict=False):
                self._add(parameter, gradient)
        for value in self.recurrence.truncations:
            self._count_norms(value)
        return self.of_parameters

    def _of_cell(self, value: Value, module: ComponentModule) -> Sequence[Tensor | None]:
        lanes = self.recurrence.lanes[value]
        if isinstance(module, Nonlinearity):
            if module.storing:
                store_gradients(module, self._steps(self.gradients(lanes)))
            return []
        if isinstance(module, LstmNonlinearity):
            return self._of_lstm(module, value)
        if isinstance(module, AnyGruNonlinearity):
            if not module.w_h.requires_grad:
                return []
            fed = self.values(self.recurrence.fed[value])
            inner = self.gradients(self.recurrence.inner[value])
            return [module.weights_gradient(fed, inner)]
        if not any(p.requires_grad for p in module.parameters()):
            return []
        operands = operand_lanes(self.loop, value)
        given = (self.values(operands), self.values(lanes), self.gradients(lanes))
        return module.parameter_derivatives(*given, self.loop.times)

    def _of_lstm(self, module: LstmNonlinearity, value: Value) -> Sequence[Tensor | None]:
        if module.storing:
            module.store_rows([self.values(lanes) for lanes in self.recurrence.results[value]])
        if not module.weights.requires_grad:
            return []
        operation = self.loop.plan.operations[value]
        assert isinstance(operation, ir.Apply)
        weights = torch.zeros_like(module.weights)
        row = weights.view(1, -1)
        for number, column_sum in self._sums.items():
            part = self.recurrence.vectors[number]
            if part.component == operation.component:
                row[:, part.columns] += column_sum
        return [weights]

    @cached_property
    def _sums(self) -> dict[int, Tensor]:
        """The derivatives with respect to vectors, by their numbers."""
        totals = zip(self.program.sums, sums_over_rows(self.program, self.backward), strict=True)
        return {total.number: column_sum for total, column_sum in totals}

    def _count_norms(self, value: Value) -> None:
        """Lets a truncation store how often it did something, for the rows that it has."""
        module, times = self.loop.modules[value], self.loop.layout.times[value]
        assert isinstance(module, BackpropTruncation)
        if module.storing and times.count:
            rows = self.gradients(self.recurrence.lanes[value])
            first = (times.start - self.loop.times.start) // self.loop.times.step
            step = times.step // self.loop.times.step if times.count > 1 else 1
            own = rows[first :: max(1, step)][: times.count]
            norms = torch.linalg.vector_norm(own, dim=-1, keepdim=True)
            module.count_norms(norms * abs(module.spec.scale_factor), times)
