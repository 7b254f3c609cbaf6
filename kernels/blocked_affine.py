"""The spliced affine for inference on a CPU: blocks of rows that stay in the cache.

The same formula as `nnet.kernels.spliced_affine`, without a derivative. Each block of the result
is made by one matrix product a term, written in place, and finished (bias, activation, scales,
bypass) before the next block is begun; the weight is held transposed, as the products want it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnet.kernels.spliced_affine import ACTIVATIONS, Epilogue, Term

BLOCK_BYTES = 384 * 1024
"""About how much is worked on at a time: a block and what it is made from fit a level-2 cache."""


def blocked_affine(
    sources: Sequence[Tensor],
    terms: Sequence[Term],
    blocks: Sequence[Tensor],
    bias: Tensor | None,
    epilogue: Epilogue,
    out: Tensor | None = None,
) -> Tensor:
    """`spliced_affine` on transposed weights.

    Args:
        sources: tensors `(time_i, batch, dim_i)`.
        terms: what is spliced; their scales must be 1 (fold them into the weights).
        blocks: for each term the part of the weight that belongs to it, `(term.dim, dim)`.
        bias: `(dim,)` or None.
        out: where to write the result, contiguous; a new tensor by default.

    Returns:
        `(length, batch, dim)`.
    """
    length = max(term.length for term in terms)
    batch = sources[0].shape[1]
    dim = blocks[0].shape[1]
    once = None if bias is None else bias.unsqueeze(0)
    moving = []
    for term, block in zip(terms, blocks, strict=True):
        view = term.view(sources[term.source])
        if term.step == 0 and term.positions is None and length > 1:
            part = view[0] @ block
            once = part if once is None else once + part
        else:
            moving.append((view, block))
    result = sources[0].new_empty((length, batch, dim)) if out is None else out
    bypass = [(term.view(sources[term.source]), term.scale) for term in epilogue.bypass]
    widest = max(dim, *(block.shape[0] for block in blocks))
    times = max(1, BLOCK_BYTES // (4 * widest * batch))
    for start in range(0, length, times):
        part = result[start : start + times]
        _products(part, moving, once, start)
        _finish(part, epilogue, bypass, start)
    return result


def _products(
    out: Tensor, moving: list[tuple[Tensor, Tensor]], once: Tensor | None, start: int
) -> None:
    """The sum of the terms' products, and of what is the same at all times."""
    rows = out.view(-1, out.shape[-1])
    stop = start + out.shape[0]
    row = once if once is not None and once.shape[0] == 1 else None
    for number, (view, block) in enumerate(moving):
        part = view[start:stop]
        part = part.squeeze(1) if part.shape[1] == 1 else part.reshape(-1, part.shape[-1])
        if number:
            rows.addmm_(part, block)
        elif row is not None:
            torch.addmm(row, part, block, out=rows)
        else:
            torch.mm(part, block, out=rows)
    if not moving:
        out.copy_(once) if once is not None else out.zero_()
    elif once is not None and row is None:
        out.add_(once)


def _finish(
    out: Tensor, epilogue: Epilogue, bypass: list[tuple[Tensor, float]], start: int
) -> None:
    """What follows the products, in place."""
    if epilogue.activation:
        ACTIVATIONS[epilogue.activation](out)
    if epilogue.scales is not None:
        out.mul_(epilogue.scales)
    if epilogue.offsets is not None:
        out.add_(epilogue.offsets)
    for view, scale in bypass:
        rows = view if view.shape[0] == 1 else view[start : start + out.shape[0]]
        out.add_(rows, alpha=scale)
