"""Running a loop of a plan over time, forward and backward.

Before the steps, everything that does not feed back is computed for all rows at once (those terms
of an affine that lie outside the loop, with its bias). A step then computes its rows of each value
in place. The derivative goes through the steps in reverse order; derivatives for parameters and for
values outside are taken over all rows at once at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nnet.plan.groups import Loop
from nnet.plan.ir import Value
from nnet.plan.loops.storage import arrange
from nnet.runtime.stepping.operations import make_step
from nnet.runtime.stepping.rows import Run
from nnet.runtime.steps import Bound


class LoopRunner:
    """A loop bound to a layout.

    Args:
        visible: the values of the loop that are wanted outside.
    """

    def __init__(self, bound: Bound, loop: Loop, visible: Sequence[Value]) -> None:
        self.bound = bound
        self.plan = plan = bound.plan
        self.layout = layout = bound.layout
        self.loop = loop
        self.visible = tuple(visible)
        self.storage = arrange(plan, layout, loop, self.visible)
        operations = [plan.operations[v] for v in self.storage.computed]
        self.outer = tuple(
            dict.fromkeys(
                operand
                for value, operation in zip(self.storage.computed, operations, strict=True)
                for operand, piece in zip(operation.operands, layout.reads[value], strict=True)
                if operand not in loop.phases and piece.rows.count
            )
        )
        names = dict.fromkeys(name for operation in operations for name in operation.components())
        self.used = [bound.modules[name] for name in names]

    def __call__(self, values: Mapping[Value, Tensor], like: Tensor) -> list[Tensor]:
        """The rows of the visible values, `(time, batch, dim)`.

        Args:
            values: those outside the loop that it reads.
            like: some input, for its batch size, type and device.
        """
        parameters = [p for module in self.used for p in module.parameters() if p.requires_grad]
        outer = [values[v] for v in self.outer]
        tracked = any(t.requires_grad for t in (*outer, *parameters))
        if torch.is_grad_enabled() and tracked:
            return list(_LoopFunction.apply(self, like, parameters, *outer, *parameters))
        return self.start(outer, like, tracked=False).forward()

    def start(self, outer: Sequence[Tensor], like: Tensor, tracked: bool) -> LoopRun:
        return LoopRun(self, dict(zip(self.outer, outer, strict=True)), like, tracked)


class LoopRun:
    """One run of a loop: its buffers and steps."""

    def __init__(
        self, runner: LoopRunner, outer: dict[Value, Tensor], like: Tensor, tracked: bool
    ) -> None:
        self.runner = runner
        self.run = Run(runner.plan, runner.layout, runner.storage, outer, like, tracked)
        self.steps = [make_step(self.run, value, runner.bound) for value in self.run.computed]
        self.spent: set[Value] = set()
        ranges = zip(*(step.ranges for step in self.steps), strict=True)
        self.schedule = [
            [step for step, (first, end) in zip(self.steps, row, strict=True) if first < end]
            for row in ranges
        ]

    def forward(self) -> list[Tensor]:
        """The rows of the visible values."""
        for step in self.steps:
            step.prepare()
        for number, steps in enumerate(self.schedule):
            for step in steps:
                step.forward(number)
        return [self.run.rows(value).all() for value in self.runner.visible]

    def backward(
        self, gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]
    ) -> list[Tensor | None]:
        """The derivatives with respect to the outer values, and then to `parameters`."""
        if self.spent:  # by a derivative before this one
            self.forward()
        self.spent = {value for step in self.steps for value in step.spent()}
        written = [place for step in self.steps for place in step.gradients_written()]
        self.run.start_backward(parameters, written, self.spent)
        for step in self.steps:
            step.start_backward()
        for value, gradient in zip(self.runner.visible, gradients, strict=True):
            if gradient is not None:
                rows = self.run.gradients(value)
                rows.add(0, rows.count, gradient)
        for number in reversed(range(len(self.schedule))):
            for step in reversed(self.schedule[number]):
                step.backward(number)
        for step in self.steps:
            step.finish()
        outer = [self.run.outer_gradients.get(value) for value in self.runner.outer]
        return [*outer, *(self.run.parameter_gradients.get(id(p)) for p in parameters)]


class _LoopFunction(Function):
    @staticmethod
    def forward(
        ctx: Any, runner: LoopRunner, like: Tensor, parameters: list[Tensor], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.parameters = parameters
        ctx.loop = runner.start(tensors[: len(runner.outer)], like, tracked=True)
        return tuple(ctx.loop.forward())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return (None, None, None, *ctx.loop.backward(gradients, ctx.parameters))
