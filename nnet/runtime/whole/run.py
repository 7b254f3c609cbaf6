"""Running loops that are recurrences: one kernel each way, two loops side by side in one launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nnet.kernels.recurrence.loop import Loop as KernelLoop
from nnet.kernels.recurrence.run import run
from nnet.plan.ir import Value
from nnet.runtime.whole.gradient import Gradients
from nnet.runtime.whole.loop import WholeLoop
from nnet.runtime.whole.rows import WholeRun


def run_side_by_side(
    loops: Sequence[WholeLoop], values: Mapping[Value, Tensor], like: Tensor
) -> list[list[Tensor]]:
    """The rows of the visible values of loops, `(time, batch, dim)`.

    Args:
        values: those outside the loops that they read.
        like: some input, for its batch size, type and device.
    """
    if torch.compiler.is_dynamo_compiling():  # to it, how programs are made is no part of a graph
        return torch.compiler.disable(run_side_by_side)(loops, values, like)
    inputs = [loop.inputs(values) for loop in loops]
    parameters = [p for loop in loops for p in loop.parameters()]
    flat = [tensor for own in inputs for tensor in own]
    tracked = torch.is_grad_enabled() and any(t.requires_grad for t in (*flat, *parameters))
    if tracked:
        computed = list(_WholeLoops.apply(loops, like, parameters, *flat, *parameters))
    else:
        computed = _forward(
            [WholeRun(loop, own, like) for loop, own in zip(loops, inputs, strict=True)]
        )
    results = []
    for loop in loops:
        own, computed = computed[: len(loop.visible)], computed[len(loop.visible) :]
        results.append(loop.results(own))
    return results


def _forward(rows: Sequence[WholeRun]) -> list[Tensor]:
    """Runs programs that will have no derivative."""
    programs = [own.loop.forward_alone.program for own in rows]
    loops = [own.start(program) for own, program in zip(rows, programs, strict=True)]
    run(programs[0], *loops, implementation="triton")
    return _visible(rows, loops)


def _visible(rows: Sequence[WholeRun], loops: Sequence[KernelLoop]) -> list[Tensor]:
    return [
        own.by_time(loop.buffers[f"visible {number}"])
        for own, loop in zip(rows, loops, strict=True)
        for number in range(len(own.loop.visible))
    ]


class _WholeLoops(Function):
    @staticmethod
    def forward(
        ctx: Any,
        loops: Sequence[WholeLoop],
        like: Tensor,
        parameters: Sequence[Tensor],
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.parameters = parameters
        ctx.rows = []
        first = 0
        for loop in loops:
            count = len(loop.affine_sources) + len(loop.recurrence.outer)
            ctx.rows.append(WholeRun(loop, tensors[first : first + count], like))
            first += count
        ctx.inputs = first
        ctx.repaired = frozenset().union(*(own.repaired() for own in ctx.rows))
        programs = [own.loop.both(ctx.repaired).forward.program for own in ctx.rows]
        ctx.loops = [own.start(p) for own, p in zip(ctx.rows, programs, strict=True)]
        run(programs[0], *ctx.loops, implementation="triton")
        return tuple(_visible(ctx.rows, ctx.loops))

    @staticmethod
    def backward(ctx: Any, *given: Tensor | None) -> tuple[Tensor | None, ...]:
        gradients: list[Gradients] = []
        for own, loop in zip(ctx.rows, ctx.loops, strict=True):
            count = len(own.loop.visible)
            gradients.append(Gradients(own, loop, own.loop.both(ctx.repaired), given[:count]))
            given = given[count:]
        program = gradients[0].program
        run(program, *(own.backward for own in gradients), implementation="triton")
        needs, of_inputs = list(ctx.needs_input_grad[3 : 3 + ctx.inputs]), list[Tensor | None]()
        of_parameters: dict[int, Tensor] = {}
        for own in gradients:
            wanted, needs = needs[: len(own.rows.inputs)], needs[len(own.rows.inputs) :]
            of_inputs += own.for_inputs(wanted)
            of_parameters |= own.for_parameters()
        return (None, None, None, *of_inputs, *(of_parameters.get(id(p)) for p in ctx.parameters))
