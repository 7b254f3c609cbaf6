"""The rows that a loop run by one kernel reads and makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nnet.kernels.affine.spliced import spliced_affine
from nnet.kernels.recurrence.loop import Loop as KernelLoop
from nnet.kernels.recurrence.program import Id, Recurrence
from nnet.kernels.recurrence.run import buffers_of, evaluate
from nnet.kernels.windows.windows import resident
from nnet.modules.dropout import RandomModule
from nnet.plan import ir
from nnet.plan.ir import Value
from nnet.plan.recurrence.loop import ParameterBlock
from nnet.runtime.device import autocast_dtype
from nnet.runtime.whole.loop import WholeLoop
from nnet.runtime.whole.repair import is_repaired


class WholeRun:
    """A run of a loop: what it reads, as the kernel takes it.

    Args:
        inputs: what `WholeLoop.inputs` gave.
        like: some input, for its batch size and device.
    """

    def __init__(self, loop: WholeLoop, inputs: Sequence[Tensor], like: Tensor) -> None:
        self.loop, self.inputs = loop, tuple(inputs)
        self.device = like.device
        self.count, self.batch = loop.times.count, like.shape[1]
        step = abs(loop.recurrence.delay) // loop.times.step
        self.width = step * self.batch
        self.reverse = loop.recurrence.delay < 0
        self.weights_dtype = autocast_dtype(like.device.type) or torch.float32

    @property
    def sources(self) -> tuple[Tensor, ...]:
        """What affine operations read outside."""
        return self.inputs[: len(self.loop.affine_sources)]

    def start(self, program: Recurrence) -> KernelLoop:
        """What the program forward runs on; visible values are in memory of their own."""
        rows = self.count * self.batch
        known = {name: self.by_row(tensor) for name, tensor in self._given().items()}
        if not known:
            known["nothing"] = torch.empty((rows, 0), device=self.device)
        return KernelLoop(
            rows,
            self.width,
            self.reverse,
            buffers_of(program, rows, known),
            {
                number: self._matrix(part)
                for number, part in enumerate(self.loop.recurrence.matrices)
            },
            {
                number: self._vector(part)
                for number, part in enumerate(self.loop.recurrence.vectors)
            },
        )

    def _given(self) -> dict[str, Tensor]:
        """What comes from outside, `(time, batch, dim)`."""
        recurrence = self.loop.recurrence
        buffers = dict(zip(recurrence.outer, self.inputs[len(self.sources) :], strict=True))
        for value in recurrence.affines:
            if self.loop.has_outer_part(value):
                buffers[recurrence.buffer("gates", value)] = self._outer_part(value)
        for value in recurrence.masks:
            module = self.loop.modules[value]
            assert isinstance(module, RandomModule)
            shape = (self.count, self.batch, self.loop.plan.dim(value))
            ones = torch.ones(shape, device=self.device)
            buffers[recurrence.buffer("mask", value)] = module(ones, self.loop.times)
        return buffers

    def by_row(self, tensor: Tensor) -> Tensor:
        """Rows `(time, batch, dim)` as (rows, dim), float32 and without gaps."""
        whole = tensor.detach().expand(self.count, self.batch, -1)
        return whole.reshape(self.count * self.batch, -1).float().contiguous()

    def by_time(self, rows: Tensor) -> Tensor:
        """A loop's rows (time * batch, dim) as (time, batch, dim)."""
        return rows.unflatten(0, (self.count, self.batch))

    def _outer_part(self, value: Value) -> Tensor:
        """What does not feed back of an affine operation, with the bias; memory of its own."""
        module = self.loop.affine(value)
        terms = self.loop.outer_terms(value)
        weight = torch.cat([module.linear.detach()[:, columns] for _, columns in terms], dim=1)
        return spliced_affine(
            [source.detach() for source in self.sources],
            [term for term, _ in terms],
            weight,
            None if module.bias is None else module.bias.detach(),
            implementation=module.implementation,
        )

    def _array(self, part: ParameterBlock) -> Tensor:
        array: Tensor = getattr(self.loop.named[part.component], part.name).detach()
        return array

    def _matrix(self, part: ParameterBlock) -> Tensor:
        block = self._array(part)[part.rows, part.columns]
        return block.to(self.weights_dtype).contiguous()

    def _vector(self, part: ParameterBlock) -> Tensor:
        return self._array(part).reshape(1, -1)[:, part.columns].float()

    def boundaries(self) -> dict[str, Tensor]:
        """For each truncation the rows where it may set derivatives to zero."""
        recurrence = self.loop.recurrence
        return {
            recurrence.buffer("boundaries", value): resident(
                self.loop.boundaries(value, self.batch), self.device
            )
            for value in recurrence.truncations
        }

    def repaired(self) -> frozenset[int]:
        """The vectors of self-repair that derivatives need."""
        return frozenset(
            number
            for number, (value, _, _) in self.loop.recurrence.repairs.items()
            if is_repaired(self.loop.modules[value])
        )


class Lanes:
    """Values after a program has run, `(time, batch, dim)`."""

    def __init__(
        self, rows: WholeRun, program: Recurrence, names: Mapping[Id, Id], loop: KernelLoop
    ) -> None:
        self.rows, self.program, self.names, self.loop = rows, program, names, loop

    def __call__(self, lanes: Sequence[Id]) -> Tensor:
        """Columns side by side; zeros for those that there are none of."""
        parts = [self._part(lane) for lane in lanes]
        return self.rows.by_time(parts[0] if len(parts) == 1 else torch.cat(parts, dim=1))

    def _part(self, lane: Id) -> Tensor:
        if lane not in self.names:
            dim = self.rows.loop.recurrence.source.dim(lane)
            return torch.zeros((self.loop.rows, dim), device=self.rows.device)
        return evaluate(self.program, self.loop, self.names[lane])


def operand_lanes(loop: WholeLoop, value: Value) -> tuple[Id, ...]:
    """The columns of what a component in a loop reads."""
    operation = loop.plan.operations[value]
    assert isinstance(operation, ir.Apply)
    return loop.recurrence.lanes[operation.source.value]
