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

BLOCK_BYTES = 512 * 1024
"""About how much of the result is made at a time, from up to twice as much of a term: together
they fit a level-2 cache."""


def blocked_affine(
    sources: Sequence[Tensor],
    terms: Sequence[Term],
    blocks: Sequence[Tensor],
    bias: Tensor | None,
    epilogue: Epilogue,
    out: Tensor | None = None,
    *,
    consume_bypass: bool = False,
    ones: bool = False,
) -> Tensor:
    """`spliced_affine` on transposed weights.

    Args:
        sources: tensors `(time_i, batch, dim_i)`.
        terms: what is spliced; their scales must be 1 (fold them into the weights).
        blocks: for each term the part of the weight that belongs to it, `(term.dim, dim)`.
        bias: `(dim,)` or None.
        out: where to write the result, contiguous; a new tensor by default.
        consume_bypass: nobody needs the source of the only bypass afterwards, so the result may
            take its place.
        ones: the last column of the first term is 1 at all times.

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
    if ones and once is not None and once.shape[0] == 1:
        view, block = moving[0]
        moving[0] = (view, torch.cat((block[:-1], block[-1:] + once)))
        once = None
    bypass = [(term.view(sources[term.source]), term.scale) for term in epilogue.bypass]
    result = out
    replace = consume_bypass and out is None and _replaceable(epilogue.bypass, bypass)
    if result is None:
        result = bypass[0][0] if replace else sources[0].new_empty((length, batch, dim))
    widest = max(2 * dim, *(block.shape[0] for block in blocks))
    times = min(length, max(1, 2 * BLOCK_BYTES // (4 * widest * batch)))
    late = once if epilogue == Epilogue() else None  # one pass at the end, if nothing follows it
    parts = [(_split(view, times), block) for view, block in moving]
    beside = [(_split(view.expand(length, -1, -1), times), scale) for view, scale in bypass]
    scratch = sources[0].new_empty((times * batch, dim)) if replace else None
    for number, rows in enumerate(_split(result, times)):
        made = rows if scratch is None else scratch[: rows.shape[0]]
        products = [(part[number], block) for part, block in parts]
        _products(made, products, once if late is None else None)
        _activate(made, epilogue)
        for others, scale in beside:
            torch.add(made, others[number], alpha=scale, out=rows)
    return result if late is None else result.add_(late)


def _split(view: Tensor, times: int) -> Sequence[Tensor]:
    """Matrices of `times` times each; views unless strides forbid it."""
    if view.shape[1] == 1:
        return view.squeeze(1).split(times)
    return [part.reshape(-1, part.shape[-1]) for part in view.split(times)]


def _replaceable(terms: Sequence[Term], views: list[tuple[Tensor, float]]) -> bool:
    """True if a result can take the place of its only bypass: whole rows without gaps."""
    if len(terms) != 1:
        return False
    (term,) = terms
    whole = term.positions is None and (term.step == 1 or term.length == 1)
    return whole and views[0][0].is_contiguous()


def _products(out: Tensor, parts: Sequence[tuple[Tensor, Tensor]], once: Tensor | None) -> None:
    """The sum of the terms' products, and of what is the same at all times `(1 or batch, dim)`."""
    row = once if once is not None and once.shape[0] == 1 else None
    for number, (part, block) in enumerate(parts):
        if number:
            out.addmm_(part, block)
        elif row is not None:
            torch.addmm(row, part, block, out=out)
        else:
            torch.mm(part, block, out=out)
    if not parts:
        out.zero_()
    if once is not None and (row is None or not parts):
        out.view(-1, *once.shape).add_(once)


def _activate(made: Tensor, epilogue: Epilogue) -> None:
    """Activation, scales and offsets, in place."""
    if epilogue.activation:
        ACTIVATIONS[epilogue.activation](made)
    if epilogue.scales is not None:
        made.mul_(epilogue.scales)
    if epilogue.offsets is not None:
        made.add_(epilogue.offsets)
