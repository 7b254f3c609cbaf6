"""The spliced affine for inference on a CPU: weights packed once, bias and ReLU inside the product.

The same formula as `nnet.kernels.spliced_affine`; oneDNN's inner product does the work. There is
no derivative.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnet.kernels.spliced_affine import ACTIVATIONS, Epilogue, Term

FUSED = ("", "relu")
"""Activations that oneDNN applies while the product is still in registers."""


def available() -> bool:
    """True if this torch has oneDNN's fused inner product."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def pack(block: Tensor, rows: int) -> Tensor:
    """`block` (dim, columns) in the layout that suits about `rows` rows at a time."""
    return torch.ops.mkldnn._reorder_linear_weight(block.contiguous(), rows)


def packed_affine(
    sources: Sequence[Tensor],
    terms: Sequence[Term],
    blocks: Sequence[Tensor],
    bias: Tensor | None,
    dim: int,
    epilogue: Epilogue,
) -> Tensor:
    """`spliced_affine` on packed weights.

    Args:
        sources: tensors `(time_i, batch, dim_i)`.
        terms: what is spliced; scales must be 1 (fold them into the blocks before packing).
        blocks: the columns of the weight that belong to each term, packed.
        bias: `(dim,)` or None.
        dim: columns of the result.

    Returns:
        `(count, batch, dim)`.
    """
    count = max(term.length for term in terms)
    batch = sources[0].shape[1]
    repeated = [t.step == 0 and t.positions is None and count > 1 for t in terms]
    fused = epilogue.activation if len(terms) == 1 and epilogue.activation in FUSED else ""
    result: Tensor | None = None
    once: Tensor | None = None
    for term, block, same in zip(terms, blocks, repeated, strict=True):
        rows = term.view(sources[term.source])
        rows = rows.reshape(-1, rows.shape[-1])
        if same:
            part = _product(rows, block, None, "")
            once = part if once is None else once.add_(part)
        elif result is None:
            result = _product(rows, block, bias, fused)
        else:
            result = torch.ops.mkldnn._linear_pointwise.binary(rows, result, block, None, "add")
    if result is None:
        assert once is not None
        row = once if bias is None else once + bias
        whole = row.expand(count, batch, dim).contiguous()
    else:
        whole = result.view(count, batch, dim)
        if once is not None:
            whole.add_(once)
    return _finish(whole, sources, epilogue, activated=bool(fused))


def _product(rows: Tensor, block: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    kind = activation or "none"
    return torch.ops.mkldnn._linear_pointwise(rows, block, bias, kind, [], "")


def _finish(
    result: Tensor, sources: Sequence[Tensor], epilogue: Epilogue, activated: bool
) -> Tensor:
    if epilogue.activation and not activated:
        ACTIVATIONS[epilogue.activation](result)
    if epilogue.scales is not None:
        result.mul_(epilogue.scales)
    if epilogue.offsets is not None:
        result.add_(epilogue.offsets)
    for term in epilogue.bypass:
        result.add_(term.view(sources[term.source]), alpha=term.scale)
    return result
