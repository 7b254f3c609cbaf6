"""A loop that is an LSTM layer, run by one kernel each way (`nnet.kernels.lstm_loop`).

What comes from outside is multiplied for all rows beforehand, gradients for weights are products
over all rows afterwards, as in every loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nnet.kernels.lstm_loop import (
    LstmGradients,
    LstmLoop,
    lstm_loop_backward,
    lstm_loop_forward,
)
from nnet.kernels.spliced_affine import Term, affine_gradients, column_sums, spliced_affine
from nnet.modules.affine import AnyAffine
from nnet.modules.gradient import BackpropTruncation
from nnet.modules.lstm import LstmNonlinearity
from nnet.modules.registry import ComponentModule
from nnet.plan import ir
from nnet.plan.ir import Plan, Value
from nnet.plan.layout import Layout
from nnet.plan.loops import Loop
from nnet.plan.lstm_loops import LstmStructure, find_lstm, fits
from nnet.plan.times import Times


class WholeLstm:
    """An LSTM layer's loop bound to a layout.

    Args:
        visible: the values of the loop that are wanted outside: the nonlinearity's and the
            projection's at most.
    """

    def __init__(
        self,
        plan: Plan,
        layout: Layout,
        structure: LstmStructure,
        modules: Mapping[str, ComponentModule],
        visible: Sequence[Value],
    ) -> None:
        self.plan, self.layout, self.structure = plan, layout, structure
        self.visible = tuple(visible)
        self.times = layout.times[structure.lstm]
        self.affine = _module(plan, structure.affine, modules, AnyAffine)
        self.lstm = _module(plan, structure.lstm, modules, LstmNonlinearity)
        self.projection = self.truncation = None
        if structure.projection is not None:
            self.projection = _module(plan, structure.projection, modules, AnyAffine)
        if structure.truncation is not None:
            self.truncation = _module(plan, structure.truncation, modules, BackpropTruncation)
        self._find_terms()

    @staticmethod
    def of(
        plan: Plan,
        layout: Layout,
        loop: Loop,
        modules: Mapping[str, ComponentModule],
        visible: Sequence[Value],
    ) -> WholeLstm | None:
        """The loop, if it is an LSTM layer that the kernel can run."""
        structure = find_lstm(plan, loop)
        if structure is None or not fits(plan, layout, structure):
            return None
        if set(visible) - {structure.lstm, structure.projection}:
            return None
        found = WholeLstm(plan, layout, structure, modules, visible)
        return None if found.lstm.spec.use_dropout else found

    def _find_terms(self) -> None:
        """Where the affine reads: outer values, their rows, and the columns that belong to them."""
        operation = self.plan.operations[self.structure.affine]
        assert isinstance(operation, ir.SplicedAffine)
        reads = self.layout.reads[self.structure.affine]
        self.outer = tuple(dict.fromkeys(self._outer_values(operation)))
        self.terms: list[Term | None] = []
        self.columns: list[slice] = []
        column = 0
        for number, (rows, piece) in enumerate(zip(operation.terms, reads, strict=False)):
            self.columns.append(slice(column, column + rows.dim))
            column += rows.dim
            if number == self.structure.inner:
                self.terms.append(None)
                continue
            chosen = piece.rows
            index = None if chosen.index is None else torch.from_numpy(chosen.index)
            where = (chosen.start, chosen.step, chosen.count)
            source = self.outer.index(rows.value)
            self.terms.append(Term(source, *where, index, rows.offset, rows.dim, rows.scale))

    def _outer_values(self, operation: ir.SplicedAffine) -> list[Value]:
        inner = self.structure.inner
        return [rows.value for i, rows in enumerate(operation.terms) if i != inner]

    @property
    def chosen(self) -> bool:
        """Whether the plan chose our kernel."""
        return self.lstm.implementation == "triton"

    def __call__(self, values: Mapping[Value, Tensor], like: Tensor) -> list[Tensor]:
        """The rows of the visible values, `(time, batch, dim)`; arguments as for any loop."""
        used = [m for m in (self.affine, self.lstm, self.projection) if m is not None]
        parameters = [p for module in used for p in module.parameters() if p.requires_grad]
        outer = [values[v] for v in self.outer]
        return list(_WholeLstm.apply(self, like, parameters, *outer, *parameters))

    def start(self, outer: Sequence[Tensor], like: Tensor) -> LstmLoop:
        """What the kernel takes, with the gates from outside."""
        c, structure = self.lstm.cell_dim, self.structure
        times, batch = self.times.count, like.shape[1]
        inner = self.columns[structure.inner]
        step = abs(structure.delay) // self.times.step
        width, reverse = step * batch, structure.delay < 0
        x = like.new_empty((times, batch, 5 * c), dtype=torch.float32)
        x[..., : 4 * c] = self._gates(outer, times)
        states = like.new_zeros(
            ((times + step) * batch, c + structure.recurrent), dtype=torch.float32
        )
        projection = self.projection
        dim = 0 if projection is None else projection.linear.shape[0]
        made = like.new_empty((times, batch, 2 * c), dtype=torch.float32)
        return LstmLoop(
            x=x.view(-1, 5 * c),
            out=made.view(-1, 2 * c),
            y=made.new_empty((times * batch, dim)) if dim else None,
            states=states,
            first=0 if reverse else width,
            width=width,
            reverse=reverse,
            w_r=self.affine.linear.detach()[:, inner].contiguous(),
            peepholes=self.lstm.weights.detach(),
            w_p=None if projection is None else projection.linear.detach(),
            b_p=None if projection is None or projection.bias is None else projection.bias.detach(),
            scale=1.0 if self.truncation is None else float(self.truncation.spec.scale_factor),
        )

    def _gates(self, outer: Sequence[Tensor], times: int) -> Tensor:
        """What does not feed back, `(time or 1, batch, 4 cells)`."""
        weight, bias = self.affine.linear.detach(), self.affine.bias
        terms = [term for term in self.terms if term is not None]
        if not terms:
            shape = (times, 1, weight.shape[0])
            return weight.new_zeros(shape) if bias is None else bias.detach().expand(shape)
        parts = [
            weight[:, columns]
            for term, columns in zip(self.terms, self.columns, strict=True)
            if term is not None
        ]
        return spliced_affine(
            outer,
            terms,
            torch.cat(parts, dim=1),
            None if bias is None else bias.detach(),
            implementation=self.affine.implementation,
        )

    def results(self, loop: LstmLoop) -> list[Tensor]:
        """The visible values."""
        made = {self.structure.lstm: loop.out, self.structure.projection: loop.y}
        found = [made[value] for value in self.visible]
        return [
            rows.view(self.times.count, -1, rows.shape[1]) for rows in found if rows is not None
        ]

    def gradients(self, loop: LstmLoop, given: Sequence[Tensor | None]) -> LstmGradients:
        """What the kernel takes for the derivative."""
        by_value = dict(zip(self.visible, given, strict=True))
        of_out, of_y = by_value.get(self.structure.lstm), None
        if self.structure.projection is not None and loop.y is not None:
            of_y = _rows_like(by_value.get(self.structure.projection), loop.y)
        threshold = zeroing = 0.0
        boundaries = None
        if self.truncation is not None:
            spec = self.truncation.spec
            threshold, zeroing = max(0.0, spec.clipping_threshold), spec.zeroing_threshold
            if zeroing > 0:
                batch = loop.rows // self.times.count
                crossed = torch.from_numpy(self.truncation.boundaries(self.times, batch))
                boundaries = crossed.to(loop.x.device).view(-1)
        storing = self.lstm.storing
        return LstmGradients(
            out=_rows_like(of_out, loop.out),
            y=of_y,
            x=torch.empty_like(loop.x),
            norms=loop.x.new_empty(loop.rows),
            threshold=threshold,
            zeroing=zeroing,
            boundaries=boundaries,
            repair=self.lstm.repair_scales().float() if storing else None,
        )

    def finish(
        self,
        loop: LstmLoop,
        gradients: LstmGradients,
        outer: Sequence[Tensor],
        needs_outer: Sequence[bool],
    ) -> tuple[list[Tensor | None], dict[int, Tensor]]:
        """The gradients for outer values, and for parameters by identity."""
        self._count_norms(gradients.norms)
        by_rows = (self.times.count, loop.rows // self.times.count, -1)
        c = self.lstm.cell_dim
        of_gates = gradients.x.view(by_rows)[..., : 4 * c].contiguous()
        states = loop.states.view(-1, by_rows[1], loop.states.shape[1])
        start = loop.before // by_rows[1]
        inner = Term(len(outer), start, 1, self.times.count, None, c, self.structure.recurrent)
        found, of_outer = _affine_gradients(
            self.affine,
            [*outer, states],
            [inner if term is None else term for term in self.terms],
            of_gates,
            [*needs_outer, False],
        )
        out = loop.out.view(by_rows)
        if self.projection is not None and gradients.y is not None:
            whole = Term(0, 0, 1, self.times.count, None, c, c)
            of_y = gradients.y.view(by_rows)
            found |= _affine_gradients(self.projection, [out], [whole], of_y, [False])[0]
        made = self.lstm.parameter_derivatives(
            loop.x.view(by_rows),
            out,
            gradients.out.view(by_rows),
            self.times,
            gradients.x.view(by_rows),
        )
        for parameter, gradient in zip(self.lstm.parameters(), made, strict=False):
            if gradient is not None:
                found[id(parameter)] = gradient
        return of_outer[: len(outer)], found

    def _count_norms(self, norms: Tensor) -> None:
        """Lets the truncation store how often it did something, for the rows that it has."""
        if self.truncation is None or self.structure.truncation is None:
            return
        own: Times = self.layout.times[self.structure.truncation]
        if own.count:
            first = (own.start - self.times.start) // self.times.step
            rows = norms.view(self.times.count, -1, 1)[first : first + own.count]
            self.truncation.count_norms(rows * abs(self.truncation.spec.scale_factor), own)


def _module(
    plan: Plan, value: Value, modules: Mapping[str, ComponentModule], kind: type[Any]
) -> Any:
    operation = plan.operations[value]
    assert isinstance(operation, ir.Apply | ir.SplicedAffine)
    module = modules[operation.component]
    assert isinstance(module, kind)
    return module


def _rows_like(gradient: Tensor | None, rows: Tensor) -> Tensor:
    """A gradient as rows of its own memory; zeros for none."""
    if gradient is None:
        return torch.zeros_like(rows)
    return gradient.reshape(rows.shape).to(
        rows.dtype, copy=True, memory_format=torch.contiguous_format
    )


def _affine_gradients(
    module: AnyAffine,
    sources: Sequence[Tensor],
    terms: Sequence[Term],
    gradient: Tensor,
    needs: Sequence[bool],
) -> tuple[dict[int, Tensor], list[Tensor | None]]:
    """Gradients for a module's parameters, by identity, and for the sources."""
    weight, of_sources = affine_gradients(
        sources,
        terms,
        module.linear.detach(),
        gradient,
        needs,
        module.linear.requires_grad,
        module.observer,
        implementation=module.implementation,
    )
    found = {} if weight is None else {id(module.linear): weight}
    if module.bias is not None and module.bias.requires_grad:
        found[id(module.bias)] = column_sums(gradient)
    return found, of_sources


class _WholeLstm(Function):
    @staticmethod
    def forward(
        ctx: Any, runner: WholeLstm, like: Tensor, parameters: list[Tensor], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.runner, ctx.parameters = runner, parameters
        outer = tensors[: len(runner.outer)]
        ctx.outer = outer
        ctx.loop = runner.start(outer, like)
        lstm_loop_forward(ctx.loop, implementation="triton")
        return tuple(runner.results(ctx.loop))

    @staticmethod
    def backward(ctx: Any, *given: Tensor | None) -> tuple[Tensor | None, ...]:
        runner, loop = ctx.runner, ctx.loop
        gradients = runner.gradients(loop, given)
        lstm_loop_backward(loop, gradients, implementation="triton")
        needs = ctx.needs_input_grad[3 : 3 + len(ctx.outer)]
        of_outer, found = runner.finish(loop, gradients, ctx.outer, needs)
        return (None, None, None, *of_outer, *(found.get(id(p)) for p in ctx.parameters))
