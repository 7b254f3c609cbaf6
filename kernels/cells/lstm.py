"""The unit-by-unit part of an LSTM: gates with peepholes, dropout of gates, cell and output.

For a row x = (i, f, g, o, c) of C columns each, and if there are 3 more, factors of the gates,

c' = d_f sigmoid(f + w_fc c) c + d_i sigmoid(i + w_ic c) tanh(g)
m = d_o sigmoid(o + w_oc c') tanh(c')

The result is (c', m). Nothing is derived by the factors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.implementation import Implementation, uses_triton


def lstm_cell(
    x: Tensor, peepholes: Tensor, *, implementation: Implementation = "reference"
) -> Tensor:
    """The formula above.

    Args:
        x: (..., 5 C) or (..., 5 C + 3).
        peepholes: (3, C), those of i, f and o.

    Returns:
        (..., 2 C).
    """
    if uses_triton(implementation, x, peepholes):
        from nnet.kernels.cells.gpu.lstm import forward

        made: Tensor = forward(x.reshape(-1, x.shape[-1]), peepholes)
        return made.view(*x.shape[:-1], -1)
    i, f, g, o, previous, d_i, d_f, d_o = _parts(x, peepholes)
    cell = d_f * torch.sigmoid(f + peepholes[1] * previous) * previous
    cell = cell + d_i * torch.sigmoid(i + peepholes[0] * previous) * g.tanh()
    return torch.cat((cell, d_o * torch.sigmoid(o + peepholes[2] * cell) * cell.tanh()), dim=-1)


def lstm_cell_gradient(
    x: Tensor,
    y: Tensor,
    peepholes: Tensor,
    gradient: Tensor,
    repair: Tensor | None = None,
    *,
    implementation: Implementation = "reference",
) -> Tensor:
    """The gradient for x.

    Args:
        y: the result for x.
        gradient: for y.
        repair: (5, C), by which saturated i, f, g, o and tanh c' are pushed back, as nnet3 does.
    """
    if uses_triton(implementation, x, y, peepholes, gradient):
        from nnet.kernels.cells.gpu.lstm import backward

        rows = [tensor.reshape(-1, tensor.shape[-1]) for tensor in (x, y, gradient)]
        made: Tensor = backward(*rows[:2], peepholes, rows[2], repair)
        return made.view(x.shape)
    c = peepholes.shape[1]
    i, f, g, o, previous, d_i, d_f, d_o = _parts(x, peepholes)
    w_ic, w_fc, w_oc = peepholes
    i, f, g = torch.sigmoid(i + w_ic * previous), torch.sigmoid(f + w_fc * previous), g.tanh()
    o, m = torch.sigmoid(o + w_oc * y[..., :c]), y[..., :c].tanh()
    push = [torch.zeros((), device=x.device)] * 5
    if repair is not None:
        parts = (2 * i - 1, 2 * f - 1, g, 2 * o - 1, m)
        push = [scale * part for scale, part in zip(repair, parts, strict=True)]
    of_m = gradient[..., c:]
    to_o = d_o * of_m * m * o * (1 - o) + push[3]
    of_cell = gradient[..., :c] + d_o * of_m * o * (1 - m * m) + to_o * w_oc + push[4]
    to_i = d_i * of_cell * g * i * (1 - i) + push[0]
    to_f = d_f * of_cell * previous * f * (1 - f) + push[1]
    to_g = d_i * of_cell * i * (1 - g * g) + push[2]
    to_previous = d_f * of_cell * f + to_i * w_ic + to_f * w_fc
    found = torch.cat((to_i, to_f, to_g, to_o, to_previous), dim=-1)
    return torch.nn.functional.pad(found, (0, x.shape[-1] - 5 * c))


def _parts(x: Tensor, peepholes: Tensor) -> tuple[Tensor, ...]:
    """i, f, g, o, c (..., C), and the factors of the gates i, f and o (..., 1)."""
    c = peepholes.shape[1]
    parts = x[..., : 5 * c].unflatten(-1, (5, c)).unbind(-2)
    masks = x[..., 5 * c :]
    if not masks.shape[-1]:
        masks = x.new_ones(3)
    return (*parts, *masks.split(1, -1))
