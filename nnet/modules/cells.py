"""What LSTMs and GRUs share: their unit-by-unit part is a program of `nnet.kernels.cells`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import Function

from nnet.kernels.cells.cell import FED, INNER, KEPT, OUTPUT, REPAIRS, Cell, gradient_of
from nnet.kernels.cells.run import CellRun, Memory, way_for
from nnet.kernels.implementation import Implementation
from nnet.kernels.native_rows import step_ranges
from nnet.modules.base import Split, StepFunction, StepGradients
from nnet.modules.statistics import SumsModule
from nnet.plan.times import Times

PRODUCT = "product 0"
"""The buffer of what a cell's matrix makes."""


class CellModule(SumsModule):
    """Rows of gates and states to rows of twice `cell_dim` columns, as a program says."""

    repairs_steps: ClassVar[bool] = False
    """Whether each step of a loop is a minibatch of its own to self-repair."""

    cell: Cell
    """The program."""

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.cell_dim = int(spec.cell_dim)

    @property
    def trained(self) -> Tensor:
        """The trainable parameter: peepholes, or the weights of what feeds back."""
        raise NotImplementedError

    def repair(self, y: Tensor) -> Tensor | None:
        """How strongly the units are self-repaired in a minibatch with the outputs `y`.

        Returns:
            (nonlinearities, cell_dim); None if they are not repaired in this one.
        """
        raise NotImplementedError

    def gradient_of_weights(self, run: CellRun) -> Tensor:
        """The derivative with respect to the trainable parameter, after the derivative has run for
        all rows."""
        raise NotImplementedError

    def _vectors(self) -> dict[int, Tensor]:
        """The program's vectors, (1, columns)."""
        rows = self.trained.detach().view(-1, self.cell_dim)
        return {number: rows[number : number + 1] for number in sorted(self.cell.weights)}

    def _matrices(self) -> dict[int, Tensor]:
        return {}

    def _named(self, blocks: Sequence[Tensor]) -> dict[str, Tensor]:
        """Rows of the input by the names of the program's buffers; what there is none of (the state
        of a GRU without projection) is the previous cell."""
        named = dict(zip(self.cell.inputs, blocks, strict=False))
        return {name: named.get(name, named["previous"]) for name in self.cell.inputs}

    def way(self, *rows: Tensor) -> Implementation:
        """What carries it out for these rows: C++ takes float32 with adjacent columns alone."""
        return way_for(self.implementation, *rows, self.trained)

    def start(
        self, x: Sequence[Tensor], out: Tensor, way: Implementation, kept: Tensor | None
    ) -> CellRun:
        """What computes rows.

        Args:
            x: the input, (time, batch, columns), in the specification's blocks.
            out: where the output goes, (time, batch, 2 cell_dim).
            kept: where what saves the derivative time goes; the first block of `x`, perhaps.
        """
        buffers = {**self._named(x), OUTPUT: out}
        if kept is not None:
            buffers[KEPT] = kept
        matrices = self._matrices()
        if matrices:
            buffers[FED] = torch.empty_like(buffers["reset"])
            buffers[PRODUCT] = out[..., : self.cell_dim]  # where h is going to be
        memory = Memory(buffers, self._vectors(), matrices)
        return CellRun(self.cell.forward(keeps=kept is not None), memory, way)

    def start_backward(
        self,
        buffers: Mapping[str, Tensor],
        targets: Sequence[Tensor],
        alone: Sequence[bool],
        repair: Tensor | None,
        way: Implementation,
    ) -> CellRun:
        """What computes the derivative with respect to the input.

        Args:
            buffers: of the input, the output, the derivative with respect to it, and perhaps what
                was kept.
            targets: where the derivative with respect to the input goes, in blocks.
            alone: for each of them, whether it is written, or added to what is there.
            repair: what `repair` gave; is read anew for each step.
        """
        of_input = self._named(targets)
        flags = dict.fromkeys(self.cell.inputs, False)
        flags |= dict(zip(self.cell.inputs, alone, strict=False))
        if "masks" in of_input and flags.pop("masks"):
            of_input["masks"].zero_()
        named = {**buffers, **{gradient_of(name): rows for name, rows in of_input.items()}}
        if self.cell.inner >= 0:
            inner = of_input["inner"]
            named[INNER] = inner if flags["inner"] else torch.empty_like(inner)
        matrices = self._matrices()
        if matrices:
            reset = of_input["reset"]
            named[PRODUCT] = reset if flags["reset"] else torch.empty_like(reset)
        vectors = self._vectors()
        if repair is not None:
            numbers = range(len(repair))
            vectors |= {REPAIRS + n: repair[n : n + 1] for n in numbers}
        program = self.cell.backward(kept=KEPT in named, repaired=repair is not None)
        added = frozenset(gradient_of(name) for name, flag in flags.items() if not flag)
        return CellRun(program, Memory(named, vectors, matrices, added), way)

    def computed(self, x: Tensor) -> Tensor:
        """The outputs, without a graph."""
        out = x.new_empty((*x.shape[:-1], 2 * self.cell_dim))
        x = _adjacent(x)
        blocks = x.split(self.spec.input_blocks, dim=-1)
        with torch.no_grad():
            self.start(blocks, out, self.way(x), None)(0, len(x))
        return out

    def forward(self, x: Tensor, times: Times) -> Tensor:
        if torch.is_grad_enabled() and (x.requires_grad or self.trained.requires_grad):
            result: Tensor = _CellFunction.apply(x, self.trained, self)
            return result
        return self.computed(x)

    @torch.no_grad()
    def differentiated(
        self, x: Tensor, y: Tensor, gradient: Tensor, repair: Tensor | None
    ) -> tuple[Tensor, CellRun]:
        """The derivative with respect to all of the input, and the run that computed it."""
        x, y, gradient = map(_adjacent, (x, y, gradient))
        of_input = torch.empty_like(x, memory_format=torch.contiguous_format)
        blocks = self.spec.input_blocks
        buffers = self._named(x.split(blocks, dim=-1))
        buffers |= {OUTPUT: y, gradient_of(OUTPUT): gradient}
        targets = of_input.split(blocks, dim=-1)
        way = self.way(x, y, gradient)
        run = self.start_backward(buffers, targets, [True] * len(targets), repair, way)
        run(0, len(x))
        return of_input, run

    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        return self.differentiated(x, y, gradient, self._repair(y))[0]

    def backward(self, x: Tensor, y: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        """The derivatives with respect to `x` and, if that is wanted, `trained`; statistics are
        stored."""
        of_input, run = self.differentiated(x, y, gradient, self._repair(y))
        return of_input, self.weights_after(run)

    @torch.no_grad()
    def parameter_derivatives(
        self, x: Tensor, y: Tensor, gradient: Tensor, times: Times, of_input: Tensor | None = None
    ) -> Sequence[Tensor | None]:
        repair = None if self.repairs_steps else self._repair(y)
        weights = self.weights_after(self.differentiated(x, y, gradient, repair)[1])
        return [weights] if self.trained.requires_grad else []

    def _repair(self, y: Tensor) -> Tensor | None:
        repair = self.repair(y) if self.storing else None
        return None if repair is None else repair.to(self.trained.dtype)

    @torch.no_grad()
    def weights_after(self, run: CellRun) -> Tensor | None:
        """The derivative with respect to the weights if it is wanted, after a derivative; stores
        statistics."""
        self.store_sums_of(run)
        return self.gradient_of_weights(run) if self.trained.requires_grad else None

    def store_sums_of(self, run: CellRun) -> None:
        """Stores statistics that a derivative has added up on its way."""

    def forward_in_steps(
        self, x: Sequence[Tensor], out: Tensor, split: Split, *, keep: bool, overwrite: bool
    ) -> StepFunction | None:
        if self.implementation == "triton":
            return None
        return CellSteps(self, x, out, split, keep=keep, overwrite=overwrite)

    def derivative_in_steps(
        self, forward: StepFunction | None, gradients: StepGradients
    ) -> StepFunction | None:
        return CellDerivative(forward, gradients) if isinstance(forward, CellSteps) else None


def _adjacent(rows: Tensor) -> Tensor:
    """Rows whose columns are adjacent."""
    return rows if rows.stride(-1) == 1 else rows.contiguous()


class _CellFunction(Function):
    """A cell's own derivative, over all rows at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, cell: CellModule) -> Tensor:
        y = cell.computed(x)
        ctx.save_for_backward(x, y, weights)
        ctx.cell = cell
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, y, _ = ctx.saved_tensors
        return (*ctx.cell.backward(x, y, gradient), None)


class CellSteps:
    """A cell in a loop, step by step; what the derivative needs is kept."""

    def __init__(
        self,
        module: CellModule,
        x: Sequence[Tensor],
        out: Tensor,
        split: Split,
        *,
        keep: bool,
        overwrite: bool,
    ) -> None:
        self.module = module
        kept = None
        if keep and module.cell.kept:
            kept = x[0] if overwrite else torch.empty_like(x[0])
        self.overwrites = kept is not None and overwrite
        self.run = module.start(x, out, module.way(*x, out), kept)
        self.ranges = step_ranges(out, split(out))
        self.steps = self.run.steps(self.ranges)

    def __call__(self, number: int) -> None:
        self.steps[number]()


class CellDerivative:
    """The derivative of a cell in a loop; that of its weights is summed up on the way."""

    def __init__(self, forward: CellSteps, gradients: StepGradients) -> None:
        module, given = forward.module, gradients.output
        self.module, self.ranges = module, forward.ranges
        buffers = {**forward.run.memory.buffers, gradient_of(OUTPUT): given}
        self.output = buffers[OUTPUT]
        self.repair: Tensor | None = None
        if module.storing:
            shape = (len(module.cell.repairs), module.cell_dim)
            self.repair = module.trained.new_zeros(shape)
            if not module.repairs_steps:
                self._repair(self.output)
        targets, alone = gradients.targets, gradients.alone
        way = module.way(*forward.run.memory.buffers.values(), given, *targets)
        self.run = module.start_backward(buffers, targets, alone, self.repair, way)
        self.steps = self.run.steps(self.ranges)

    @torch.no_grad()
    def _repair(self, rows: Tensor) -> None:
        assert self.repair is not None
        strengths = self.module.repair(rows)
        self.repair.zero_() if strengths is None else self.repair.copy_(strengths)

    def __call__(self, number: int) -> None:
        if self.repair is not None and self.module.repairs_steps:
            self._repair(self.output[slice(*self.ranges[number])])
        self.steps[number]()

    def parameter_gradients(self) -> Sequence[Tensor | None]:
        """The derivative with respect to the weights, after all steps; stores statistics."""
        module = self.module
        weights = module.weights_after(self.run)
        return [weights] if module.trained.requires_grad else []
