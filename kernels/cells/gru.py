"""The unit-by-unit part of gated recurrent units.

h = tanh(inner + feedback),  c = (1 - z) h + z c'

The result is (h, c). What feeds back is given, or is w c', unit by unit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.implementation import Implementation, uses_triton


def gru_cell(
    z: Tensor,
    inner: Tensor,
    previous: Tensor,
    feedback: Tensor,
    *,
    implementation: Implementation = "reference",
) -> Tensor:
    """The formula above.

    Args:
        z, inner, previous: (..., C).
        feedback: (..., C); or w, (C,).

    Returns:
        (..., 2 C).
    """
    if uses_triton(implementation, z, inner, previous, feedback):
        from nnet.kernels.cells.gpu.gru import forward

        c = z.shape[-1]
        rows = [tensor.reshape(-1, c) for tensor in (z, inner, previous)]
        fed = feedback if feedback.dim() == 1 else feedback.reshape(-1, c)
        made: Tensor = forward(*rows, fed)
        return made.view(*z.shape[:-1], 2 * c)
    fed = feedback * previous if feedback.dim() == 1 else feedback
    h = torch.tanh(inner + fed)
    return torch.cat((h, torch.lerp(h, previous, z)), dim=-1)


def gru_cell_gradient(
    z: Tensor,
    previous: Tensor,
    y: Tensor,
    gradient: Tensor,
    *,
    implementation: Implementation = "reference",
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients for z, for what the tanh is taken of, and for c' but through the feedback.

    Args:
        y: the result, (..., 2 C).
        gradient: for it.
    """
    c = z.shape[-1]
    if uses_triton(implementation, z, previous, y, gradient):
        from nnet.kernels.cells.gpu.gru import backward

        rows = [tensor.reshape(-1, tensor.shape[-1]) for tensor in (z, previous, y, gradient)]
        made: Tensor = backward(*rows)
        of_z, of_inner, of_previous = (part.view(z.shape) for part in made.unbind())
        return of_z, of_inner, of_previous
    h, of_h, of_cell = y[..., :c], gradient[..., :c], gradient[..., c:]
    of_inner = (of_h + of_cell * (1 - z)) * (1 - h * h)
    return of_cell * (previous - h), of_inner, of_cell * z
