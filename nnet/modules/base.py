"""What the torch side of a component is: forward, derivative, and back to a specification."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from nnet.kernels.implementation import Implementation
from nnet.kernels.windows.windows import Windows
from nnet.plan.times import Times
from nnet.plan.windows import WindowRows

Split = Callable[[Tensor], Sequence[Tensor]]
StepFunction = Callable[[int], None]


@dataclasses.dataclass(frozen=True, eq=False)
class StepGradients:
    """Gradients of a component in a loop, for the rows of all steps.

    Attributes:
        output: the derivative with respect to the output; a step's rows are there before it.
        targets: where that for the input goes, in blocks; a step's derivative is added to what is
            there, or, where `alone` says so, written.
        alone: for each target, whether there is no other derivative with respect to it.
        times: of the rows of all steps.
        split: from rows of all steps to views of each step's.
    """

    output: Tensor
    targets: Sequence[Tensor]
    alone: Sequence[bool]
    times: Times
    split: Split


class ComponentModule(nn.Module):
    """What a component computes on rows.

    `forward` takes rows `(time, batch, input_dim)` and the times that they belong to, and gives
    `(time, batch, output_dim)`. Parameters have the names of the specification's fields. A
    component whose window is not its own time alone is a `WindowModule`, or gets the rows of its
    window appended (Tdnn).
    """

    in_parts = False
    """Whether the rows of a minibatch may come in several calls. As in nnet3, natural gradient then
    takes each call for a minibatch of its own."""
    row_observers: Mapping[str, Callable[[Tensor], None]] = MappingProxyType({})
    """By parameter: what an optimizer wants to see, in the backward pass, the rows by which the
    parameter's gradient is summed up."""

    implementation: ClassVar[Implementation] = "reference"
    """Which implementation of its kernel it runs; `bound` gives others."""

    recordable = True
    """Whether a training step with it can be recorded (see `nnet.kernels.recording`)."""

    @property
    def phase(self) -> Hashable:
        """What decides, beyond shapes, which computations the next training step makes of it."""
        return None

    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.spec = spec

    def bound(self, implementation: Implementation) -> Self:
        """This module as an implementation carries it out: what a step of a plan is handed.

        Parameters, buffers and everything else are this module's own, whichever changes them.
        """
        if implementation == self.implementation:
            return self
        own: Any = type(self)
        kind = _bound_kind(own, implementation)
        view: Self = object.__new__(kind)
        view.__dict__ = self.__dict__
        return view

    def __getstate__(self) -> dict[str, Any]:
        """A copy is nobody's: what an optimizer set on this module, or what was made of its
        parameters, is not part of it."""
        state = self.__dict__.copy()
        for name in ("observer", "row_observers", "_copies"):
            state.pop(name, None)
        return state

    def watched(self, result: Tensor, **rows: Callable[[Tensor], Tensor]) -> Tensor:
        """`result`, whose derivative is shown to the row observers.

        Args:
            result: what `forward` gives.
            rows: by parameter, from the derivative of the result to rows (count, size) whose sum is
                the parameter's gradient.
        """
        if self.row_observers and result.requires_grad:
            for name, observer in self.row_observers.items():
                _show(result, rows[name], observer)
        return result

    def parameter(self, name: str) -> nn.Parameter:
        """A trainable copy of the specification's array `name`."""
        return nn.Parameter(torch.tensor(getattr(self.spec, name)))

    def forward(self, x: Tensor, times: Times) -> Tensor:
        """Computes rows `(output times, batch, output_dim)` from rows `(stored times, batch,
        input_dim)`."""
        raise NotImplementedError

    def forward_into(self, x: Tensor, times: Times, out: Tensor) -> None:
        """`forward` with a place for the result, without a graph; for steps of a loop."""
        out.copy_(self(x, times))

    def forward_in_steps(
        self, x: Sequence[Tensor], out: Tensor, split: Split, *, keep: bool, overwrite: bool
    ) -> StepFunction | None:
        """`forward_into` for rows of a loop, with all views made beforehand.

        Args:
            x: the rows of all steps, in the specification's blocks of columns (`input_blocks`; one
                if it says nothing); a step's rows are there before it.
            out: the results of all steps.
            split: from rows of all steps to views of each step's.
            keep: whether the derivative is wanted afterwards.
            overwrite: whether what the derivative needs may be kept in the first block of `x`. If
                that is done, what is returned has a true attribute `overwrites`.

        Returns:
            What makes the rows of a step, called with its number; None if there is no such way.
        """
        return None

    def derivative_in_steps(
        self, forward: StepFunction | None, gradients: StepGradients
    ) -> StepFunction | None:
        """`derivative` for rows of a loop, with all views made beforehand.

        If what is made has a method `parameter_gradients`, that is asked for the trainable
        parameters' gradients after all steps, in place of `parameter_derivatives`.

        Args:
            forward: what `forward_in_steps` gave, after all steps.
            gradients: those that are given, and where those wanted go.
        """
        return None

    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        """The derivative with respect to the input, `(time, batch, input_dim)`, as backpropagation
        defines it.

        Loops over time call it step by step, and take the parameters' gradients over all steps at
        once. Components that stand in loops have their own, without a graph; it may change module
        statistics as nnet3's Backprop does.

        Args:
            x, y: an input and the output that `forward` gave for it.
            gradient: for the output.
        """
        with torch.enable_grad():
            source = x.detach().requires_grad_()
            result = self(source, times)
        return torch.autograd.grad(result, source, gradient)[0]

    def derivative_factors(self, x: Tensor, y: Tensor, times: Times) -> Tensor | None:
        """What of `derivative` depends on values alone, for many rows at once: (time, batch, ...).

        Loops ask for it before they go backward, and then call `derivative_from` with rows of it
        in place of `derivative`. None if there is no such shortcut.
        """
        return None

    def derivative_from(self, factors: Tensor, x: Tensor, gradient: Tensor) -> Tensor:
        """The derivative as `derivative` gives it, from the rows of its factors."""
        raise NotImplementedError

    def parameter_derivatives(
        self, x: Tensor, y: Tensor, gradient: Tensor, times: Times, of_input: Tensor | None = None
    ) -> Sequence[Tensor | None]:
        """The derivatives with respect to the trainable parameters, in the order of `parameters()`.

        Loops call it once, with the rows of all steps; arguments as for `derivative`.

        Args:
            of_input: the derivative with respect to `x`, if it is known.
        """
        parameters = [p for p in self.parameters() if p.requires_grad]
        with torch.enable_grad():
            result = self(x.detach(), times)
        return torch.autograd.grad(result, parameters, gradient, allow_unused=True)

    def to_spec(self) -> Any:
        """The specification with this module's parameters and statistics in it."""
        arrays = {
            name: tensor.detach().cpu().float().numpy().copy()
            for name, tensor in self.named_parameters(recurse=False)
        }
        return dataclasses.replace(self.spec, **arrays) if arrays else self.spec


class WindowModule(ComponentModule):
    """What a component computes that looks at a window of frames; `windowed` says what."""

    def forward(self, x: Tensor, times: Times, rows: WindowRows | None = None) -> Tensor:
        """From rows `(stored times, batch, input_dim)` to `(output times, batch, output_dim)`.

        Args:
            times: the output times.
            rows: where in the rows each output time's window lies; None where it is its own row.
        """
        return self.windowed(x, rows or WindowRows(self.spec.window, times, times))

    def windowed(self, x: Tensor, rows: WindowRows) -> Tensor:
        """The output at the times `rows.own`, as in `forward`."""
        raise NotImplementedError

    @staticmethod
    def take(x: Tensor, rows: WindowRows, number: int) -> Tensor:
        """The rows at offset `number` of every window; zeros where there is none.

        `x` is (stored times, ...), of any shape.
        """
        selection = rows.selection(number)
        if selection is None:
            index = torch.from_numpy(rows.index[:, number]).to(x.device)
            present = (index >= 0).to(x.dtype).view(-1, *(1 for _ in x.shape[1:]))
            return x.index_select(0, index.clamp_min(0)) * present
        if selection.index is not None:
            return x.index_select(0, torch.from_numpy(selection.index).to(x.device))
        if selection.step == 0:
            return x[selection.start : selection.start + 1].expand(selection.count, *x.shape[1:])
        end = selection.start + (selection.count - 1) * selection.step + 1
        return x[selection.start : end : selection.step]


@functools.cache
def _bound_kind(kind: Any, implementation: Implementation) -> Any:
    """The class of modules of a kind that run an implementation."""
    plain = vars(kind).get("_unbound", kind)
    if implementation == plain.implementation:
        return plain
    return type(plain.__name__, (plain,), {"implementation": implementation, "_unbound": plain})


_INDEXED: WeakIdKeyDictionary = WeakIdKeyDictionary()


def indexed(rows: WindowRows) -> Windows:
    """The rows of windows by an index, as kernels take them; it is kept as long as the rows are."""
    windows = _INDEXED.get(rows)
    if windows is None:
        index = torch.from_numpy(np.ascontiguousarray(rows.index))
        windows = _INDEXED[rows] = Windows(rows.own.count, index=index)
    with_index: Windows = windows
    return with_index


def _show(
    result: Tensor, rows: Callable[[Tensor], Tensor], observer: Callable[[Tensor], None]
) -> None:
    result.register_hook(lambda gradient: observer(rows(gradient)))


def constant(array: np.ndarray | None) -> Tensor | None:
    """A tensor that is never changed; it shares the array's memory where that is possible."""
    if array is None:
        return None
    return torch.from_numpy(array) if array.flags.writeable else torch.tensor(array)
