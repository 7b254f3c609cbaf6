"""The spliced affine for inference on a CPU: blocks of rows that stay in the cache.

The same formula as `nnet.kernels.affine.spliced`, without a derivative. Each block of the result
is made by one matrix product a term, written in place, and finished (bias, activation, scales,
bypass) before the next block is begun; the weight is held transposed, as the products want it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nnet.kernels.affine.terms import Epilogue, Term
from nnet.kernels.functions import FUNCTIONS

ROWS = 64
"""Blocks are multiples of so many rows: what matrix products like."""

NOTHING = Epilogue()

TermWithWeight = tuple[Tensor, Tensor]
"""Rows of a term, and the part of the weight that belongs to it."""


@dataclass(frozen=True)
class BlockedAffine:
    """`spliced_affine` on transposed weights.

    Attributes:
        terms: what is spliced; their scales must be 1 (fold them into the weights).
        blocks: for each term the part of the weight that belongs to it, `(term.dim, dim)`; if they
            are bfloat16, products are, and everything else has the type of the sources.
        bias: `(dim,)` or None.
        consume_bypass: nobody needs the source of the only bypass afterwards, so the result may
            take its place.
        ones: the last column of the first term is 1 at all times.
        block_rows: rows of a block; 0 for as many as the weight has columns, so that a block of the
            result is about as large as the weight, which every block reads again.
    """

    terms: Sequence[Term]
    blocks: Sequence[Tensor]
    bias: Tensor | None
    epilogue: Epilogue = NOTHING
    consume_bypass: bool = False
    ones: bool = False
    block_rows: int = 0

    def __call__(self, sources: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """The result `(length, batch, dim)`.

        Args:
            sources: tensors `(time_i, batch, dim_i)`.
            out: where to write the result, contiguous; a new tensor by default.
        """
        length = max(term.length for term in self.terms)
        batch = sources[0].shape[1]
        moving, once = self._products(sources, length)
        beside = [(term.view(sources[term.source]), term.scale) for term in self.epilogue.bypass]
        result = out
        replace = self.consume_bypass and out is None and self._replaceable(beside)
        if result is None:
            dim = self.blocks[0].shape[1]
            result = beside[0][0] if replace else sources[0].new_empty((length, batch, dim))
        late = once if self.epilogue == NOTHING else None  # one pass at the end, if nothing follows
        once = once if late is None else None
        times = self._times(length, batch, len(moving))
        parts = [(_split(view, times, length), block) for view, block in moving]
        others = [(_split(view, times, length), scale) for view, scale in beside]
        scratch = result.new_empty((times * batch, result.shape[-1])) if replace else None
        for number, rows in enumerate(_split(result, times, length)):
            product = rows if scratch is None else scratch[: rows.shape[0]]
            _multiply(product, [(part[number], block) for part, block in parts], once)
            _activate(product, self.epilogue)
            for other, scale in others:
                torch.add(product, other[number], alpha=scale, out=rows)
        return result if late is None else result.add_(late)

    def _products(
        self, sources: Sequence[Tensor], length: int
    ) -> tuple[list[TermWithWeight], Tensor | None]:
        """Terms that change in time; and what is the same at all times, `(1 or batch, dim)`."""
        once = None if self.bias is None else self.bias.unsqueeze(0)
        moving: list[TermWithWeight] = []
        for term, block in zip(self.terms, self.blocks, strict=True):
            view = term.view(sources[term.source])
            if view.dtype != block.dtype:
                view = view.to(block.dtype)
            if term.step == 0 and term.positions is None and length > 1:
                product = (view[0] @ block).to(sources[0].dtype)
                once = product if once is None else once + product
            else:
                moving.append((view, block))
        if self.ones and once is not None and once.shape[0] == 1:
            view, block = moving[0]
            bias = (block[-1:] + once).to(block.dtype)
            moving[0] = (view, torch.cat((block[:-1], bias)))
            once = None
        return moving, once

    def _replaceable(self, beside: list[tuple[Tensor, float]]) -> bool:
        """True if a result can take the place of its only bypass: whole rows without gaps."""
        if len(self.epilogue.bypass) != 1:
            return False
        (term,) = self.epilogue.bypass
        whole = term.positions is None and (term.step == 1 or term.length == 1)
        return whole and beside[0][0].is_contiguous()

    def _times(self, length: int, batch: int, products: int) -> int:
        """Times in a block: all, if a block is touched only once."""
        if not self.block_rows and products < 2 and self.epilogue == NOTHING:
            return length
        rows = self.block_rows or max(ROWS, sum(block.shape[0] for block in self.blocks))
        count = -(-length * batch // rows)
        even = -(-length // max(1, count))
        return even if self.block_rows or batch > 1 else min(length, -(-even // ROWS) * ROWS)


def _split(view: Tensor, times: int, length: int) -> Sequence[Tensor]:
    """Matrices of `times` times each; views unless strides forbid it."""
    if view.shape[0] != length:
        view = view.expand(length, -1, -1)
    if view.shape[1] == 1:
        rows = view.squeeze(1)
        return (rows,) if times >= length else rows.split(times)
    return [part.reshape(-1, part.shape[-1]) for part in view.split(times)]


def _multiply(out: Tensor, parts: Sequence[TermWithWeight], once: Tensor | None) -> None:
    """The sum of the terms' products, and of what is the same at all times."""
    row = once if once is not None and once.shape[0] == 1 else None
    rounded = bool(parts) and parts[0][1].dtype != out.dtype
    for number, (part, block) in enumerate(parts):
        if rounded:
            product = torch.mm(part, block)
            out.add_(product) if number else out.copy_(product)
        elif number:
            out.addmm_(part, block)
        elif row is not None:
            torch.addmm(row, part, block, out=out)
        else:
            torch.mm(part, block, out=out)
    if not parts:
        out.zero_()
    if once is not None and (row is None or rounded or not parts):
        out.view(-1, *once.shape).add_(once)


def _activate(rows: Tensor, epilogue: Epilogue) -> None:
    """Activation, scales and offsets, in place."""
    if epilogue.activation:
        FUNCTIONS[epilogue.activation].in_place(rows)
    if epilogue.scales is not None:
        rows.mul_(epilogue.scales)
    if epilogue.offsets is not None:
        rows.add_(epilogue.offsets)
