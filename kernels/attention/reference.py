"""Attention over a few frames around each output frame: nnet3's RestrictedAttentionComponent.

For each head, with q, k_n, v_n of the rows of the window (zeros where there is none) and a bias b_n
by position: w = softmax_n(key_scale q k_n + b_n), y = sum_n w_n v_n.

The torch code below is the reference and the CPU path; the kernels are in
`nnet.kernels.attention.gpu`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from nnet.kernels.implementation import Implementation, triton_file, uses_triton
from nnet.kernels.windows.windows import Windows


class Heads(NamedTuple):
    """How a row is divided: for each head a key, a value, a query, and biases by position.

    Attributes:
        here: the number of the output time's own row in a window.
        positions: rows of a window.
    """

    number: int
    key_dim: int
    value_dim: int
    positions: int
    here: int
    key_scale: float

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Columns of key, value, query and biases."""
        return self.key_dim, self.value_dim, self.key_dim, self.positions


def restricted_attention(
    x: Tensor,
    heads: Heads,
    windows: Windows,
    *,
    implementation: Implementation = "reference",
) -> tuple[Tensor, Tensor]:
    """The formula above.

    Args:
        x: `(stored times, batch, heads * columns of a head)`.
        windows: with an index.

    Returns:
        y `(count, batch, heads, value_dim)` and w `(count, batch, heads, positions)`.
    """
    if uses_triton(implementation, x):
        results: tuple[Tensor, Tensor] = _RestrictedAttention.apply(x, heads, windows)
        return results
    parts = x.unflatten(-1, (heads.number, -1)).split(heads.sizes, dim=-1)
    keys, values, queries, biases = parts
    query = windows.take(queries, heads.here) * heads.key_scale
    positions = range(heads.positions)
    products = [(query * windows.take(keys, p)).sum(dim=-1) for p in positions]
    logits = torch.stack(products, dim=-1) + windows.take(biases, heads.here)
    weights = logits.softmax(dim=-1)
    result = torch.zeros_like(windows.take(values, heads.here))
    for p in positions:
        result = result + weights[..., p : p + 1] * windows.take(values, p)
    return result, weights


class _RestrictedAttention(Function):
    """Restricted self-attention by Triton kernels, with a derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, heads: Heads, windows: Windows) -> tuple[Tensor, Tensor]:
        forward = triton_file("attention.gpu").forward
        result, weights = forward(x, list(heads[:5]), heads.key_scale, windows.index)
        ctx.save_for_backward(x, weights)
        ctx.heads, ctx.index = heads, windows.index
        return result, weights

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        backward = triton_file("attention.gpu").backward
        x, weights = ctx.saved_tensors
        of_result, of_weights = (gradient.contiguous() for gradient in gradients)
        heads = list(ctx.heads[:5])
        of_input = backward(
            x, weights, of_result, of_weights, heads, ctx.heads.key_scale, ctx.index
        )
        return of_input, None, None
