"""The update of all parameters at once: what is added to each, its norm, and the addition.

change = scale * gradient - penalty * parameter + momentum buffer
parameter += multiplier * change

torch's reference goes from tensor to tensor; the Triton kernels take all of them in one launch,
by a table of their addresses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnet.kernels.implementation import Implementation, triton_file, uses_triton
from nnet.kernels.recording import may_look


def make_changes(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    buffers: Sequence[Tensor | None],
    scales: Tensor,
    penalties: Tensor,
    *,
    implementation: Implementation = "reference",
) -> Tensor:
    """Puts the change of each parameter in the place of its buffer, or without one its gradient.

    Args:
        parameters, gradients, buffers: contiguous, of the same shapes.
        scales: of the gradients, float32 (tensors,).
        penalties: of the parameters, float32 (tensors,).

    Returns:
        The sum of squares of each change, float64 (tensors,).
    """
    if uses_triton(implementation, *parameters, *gradients, *buffers):
        make = triton_file("update.gpu.parameters").make
        places = [scales.new_empty(0) if b is None else b for b in buffers]
        all_changes: Tensor = make(list(parameters), list(gradients), places, scales, penalties)
        return all_changes
    changes = []
    for parameter, gradient, buffer, scale, penalty in zip(
        parameters, gradients, buffers, scales.unbind(), penalties.unbind(), strict=True
    ):
        gradient.mul_(scale.to(gradient.dtype))
        if not may_look(penalty):
            gradient.addcmul_(parameter, penalty.to(gradient.dtype), value=-1.0)
        elif penalty:
            gradient.add_(parameter, alpha=-penalty.item())
        changes.append(gradient if buffer is None else buffer.add_(gradient))
    return torch.stack(torch._foreach_norm(changes)).double().square()


def add_changes(
    parameters: Sequence[Tensor],
    changes: Sequence[Tensor],
    multipliers: Tensor,
    *,
    implementation: Implementation = "reference",
) -> None:
    """Adds the changes. Where a multiplier is 0 nothing is added, whatever the change is.

    Args:
        parameters, changes: contiguous, of the same shapes.
        multipliers: float32 (tensors,).
    """
    if uses_triton(implementation, *parameters, *changes):
        add = triton_file("update.gpu.parameters").add
        add(list(parameters), list(changes), multipliers)
        return
    for parameter, change, multiplier in zip(
        parameters, changes, multipliers.unbind(), strict=True
    ):
        if not may_look(multiplier):
            change = torch.where(multiplier != 0, change, 0.0)
        elif not multiplier:
            continue
        parameter.addcmul_(change, multiplier.to(change.dtype))
