"""The changes of all parameters in a minibatch, made and added together."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nnet.kernels.implementation import Implementation
from nnet.kernels.parameter_update import add_changes, make_changes


@dataclass(eq=False)
class Changes:
    """What is added to parameters, in lists side by side.

    Attributes:
        parameters: those that change.
        gradients: of the loss; the changes take their place, or that of momentum's buffers.
        buffers: what is left of the changes before, for momentum; None without it.
        factors: scalar tensors that gradients are multiplied by, or None.
        rates: numbers that they are multiplied by.
        penalties: times which the parameter is subtracted.
        owners: numbers of the components that the parameters belong to.
    """

    implementation: Implementation = "reference"
    parameters: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    buffers: list[Tensor | None] = field(default_factory=list)
    factors: list[Tensor | None] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    penalties: list[float] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)

    def append(
        self,
        owner: int,
        parameter: Tensor,
        gradient: Tensor,
        buffer: Tensor | None,
        factor: Tensor | None,
        rate: float,
        penalty: float,
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
        one = _numbers((1.0,), device)[0]
        factors = torch.stack([one if f is None else f.float() for f in self.factors])
        squares = make_changes(
            self.parameters,
            self.gradients,
            self.buffers,
            factors * _numbers(tuple(self.rates), device),
            self.penalties,
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
        return _indices(tuple(self.owners), device)


@functools.lru_cache(maxsize=32)
def _numbers(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    """Numbers on the device."""
    return torch.tensor(numbers).to(device, non_blocking=True)


@functools.lru_cache(maxsize=32)
def _indices(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(numbers).to(device, non_blocking=True)
