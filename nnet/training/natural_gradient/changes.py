"""The changes of all parameters in a minibatch, made and added together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nnet.kernels.implementation import Implementation
from nnet.kernels.recording import constants, numbers
from nnet.kernels.update.parameters import add_changes, make_changes


@dataclass(eq=False)
class Changes:
    """What is added to parameters, in lists side by side.

    Attributes:
        parameters: those that change.
        gradients: of the loss; the changes take their place, or that of momentum's buffers.
        buffers: what is left of the changes before, for momentum; None without it.
        factors: scalar tensors that gradients are multiplied by, or None.
        rates: give the numbers that they are multiplied by, which change from step to step.
        penalties: give the numbers times which the parameter is subtracted.
        owners: numbers of the components that the parameters belong to.
    """

    implementation: Implementation = "reference"
    parameters: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    buffers: list[Tensor | None] = field(default_factory=list)
    factors: list[Tensor | None] = field(default_factory=list)
    rates: list[Callable[[], float]] = field(default_factory=list)
    penalties: list[Callable[[], float]] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)

    def append(
        self,
        owner: int,
        parameter: Tensor,
        gradient: Tensor,
        buffer: Tensor | None,
        factor: Tensor | None,
        rate: Callable[[], float],
        penalty: Callable[[], float],
    ) -> None:
        """Adds one parameter."""
        self.owners.append(owner)
        self.parameters.append(parameter)
        self.gradients.append(gradient)
        self.buffers.append(buffer)
        self.factors.append(factor)
        self.rates.append(rate)
        self.penalties.append(penalty)

    def make(self, components: int) -> Tensor:
        """Makes the changes; their 2-norms by component, float64 (components,)."""
        device = self.parameters[0].device
        one = constants((1.0,), torch.float32, device)
        factors = torch.stack([one[0] if f is None else f.float() for f in self.factors])
        squares = make_changes(
            self.parameters,
            self.gradients,
            self.buffers,
            factors * numbers(lambda: _said(self.rates), one),
            numbers(lambda: _said(self.penalties), one),
            implementation=self.implementation,
        )
        total = torch.zeros(components, dtype=torch.float64, device=device)
        return total.index_add_(0, self._owners(device), squares).sqrt()

    def add(self, multipliers: Tensor) -> None:
        """Adds the changes, each times the multiplier of its component, float32 (components,)."""
        add_changes(
            self.parameters,
            [
                gradient if buffer is None else buffer
                for gradient, buffer in zip(self.gradients, self.buffers, strict=True)
            ],
            multipliers.index_select(0, self._owners(multipliers.device)),
            implementation=self.implementation,
        )

    def _owners(self, device: torch.device) -> Tensor:
        return constants(tuple(self.owners), torch.int64, device)


def _said(by: Sequence[Callable[[], float]]) -> list[float]:
    return [function() for function in by]
