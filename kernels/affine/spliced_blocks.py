"""Spliced rows in blocks that stay in the cache, for training on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from nnet.kernels.affine.product import multiply
from nnet.kernels.affine.terms import NARROW, Term
from nnet.kernels.implementation import Implementation

BLOCK_BYTES = 12 << 20
"""Of what a block of rows is computed from and to, at most: larger ones leave the outer cache."""


def time_blocks(rows: Tensor, columns: int) -> list[slice]:
    """Ranges of times, about equally long, that fit `BLOCK_BYTES`.

    Args:
        rows: `(times, batch, dim)`.
        columns: of what is read and written for them.
    """
    times, batch, _ = rows.shape
    count = min(times, -(-times * batch * columns * rows.element_size() // BLOCK_BYTES))
    return [slice(i * times // count, (i + 1) * times // count) for i in range(count)]


@dataclass(frozen=True)
class Group:
    """Terms that are multiplied together: one, or narrow ones, which are put side by side."""

    terms: tuple[Term, ...]
    columns: slice
    """Of the weight."""


class SplicedBlocks:
    """The rows that terms read, in blocks of times.

    Args:
        sources: tensors `(time_i, batch, dim_i)`.
        terms: what is spliced (see `nnet.kernels.affine.spliced`).
        implementation: of products.
    """

    def __init__(
        self,
        sources: Sequence[Tensor],
        terms: Sequence[Term],
        implementation: Implementation = "reference",
    ) -> None:
        self.implementation = implementation
        self.sources = sources
        self.terms = terms
        self.times = max(term.length for term in terms)
        self.batch = sources[0].shape[1]
        self.moving: list[Group] = []
        self.once: list[Group] = []
        column = 0
        for (once, _), alike in groupby(terms, self._kind):
            members = list(alike)
            for part in [tuple(members)] if _are_narrow(members) else [(m,) for m in members]:
                end = column + sum(term.dim for term in part)
                (self.once if once else self.moving).append(Group(part, slice(column, end)))
                column = end
        self._views = {t: t.view(sources[t.source]) for t in terms if t.positions is None}

    def _kind(self, term: Term) -> tuple[bool, float]:
        once = term.step == 0 and term.positions is None and self.times > 1
        return once, term.scale

    def rows(self, group: Group, block: slice) -> Tensor:
        """A group's rows `(rows, columns)`, without their scale; a view where that is possible."""
        parts = [self._part(term, block) for term in group.terms]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return whole.flatten(0, 1)

    def _part(self, term: Term, block: slice) -> Tensor:
        if term.positions is None:
            return self._views[term][block]
        source = self.sources[term.source].narrow(-1, term.offset, term.dim)
        return source.index_select(0, term.positions[block])

    def product_once(self, weight: Tensor) -> Tensor | None:
        """What the terms that are the same at all times give, `(batch, dim)`."""
        total = None
        for group in self.once:
            (term,) = group.terms
            product = self._views[term][0] @ weight[:, group.columns].t() * term.scale
            total = product if total is None else total + product
        return total

    def multiply(self, block: slice, weight: Tensor, once: Tensor | None, out: Tensor) -> None:
        """Writes the rows times the weight to `out` `(rows, dim)`.

        Args:
            weight: `(dim, columns)`.
            once: what `product_once` gave.
        """
        for number, group in enumerate(self.moving):
            matrix, scale = weight[:, group.columns].t(), group.terms[0].scale
            rows, add = self.rows(group, block), number > 0
            multiply(rows, matrix, out, add=add, scale=scale, implementation=self.implementation)
        if not self.moving:
            out.zero_()
        if once is not None:
            out.view(-1, *once.shape).add_(once)


def _are_narrow(terms: Sequence[Term]) -> bool:
    """Whether a product with few columns is slower than a copy of them."""
    moving = all(term.step or term.positions is not None for term in terms)
    return moving and len(terms) > 1 and max(term.dim for term in terms) < NARROW


def add_to_sources(
    gradient: Tensor, terms: Sequence[Term], sources: Sequence[Tensor], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Adds the derivative with respect to spliced rows up to that with respect to each source."""
    of_sources: list[Tensor | None] = [None] * len(sources)
    column = 0
    for term in terms:
        part = gradient.narrow(-1, column, term.dim)
        column += term.dim
        if not needed[term.source]:
            continue
        source, target = sources[term.source], of_sources[term.source]
        if target is None and _is_whole(term, source) and part.is_contiguous():
            of_sources[term.source] = part * term.scale if term.scale != 1.0 else part
            continue
        if target is None:
            of_sources[term.source] = target = torch.zeros_like(source)
        add_rows(target, term, part)
    return of_sources


def add_rows(target: Tensor, term: Term, part: Tensor) -> None:
    """Adds `part` times the term's scale to the rows of `target` that the term reads."""
    if term.positions is None:
        term.view(target).add_(part, alpha=term.scale)
    else:
        columns = target.narrow(-1, term.offset, term.dim)
        columns.index_add_(0, term.positions, part, alpha=term.scale)


def _is_whole(term: Term, source: Tensor) -> bool:
    where = (term.positions, term.start, term.step, term.length, term.dim)
    return where == (None, 0, 1, *source.shape[::2])
