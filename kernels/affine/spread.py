"""Narrow affine transforms of spliced wide rows, for training on a CPU.

    y[t, b] = sum_k x[rows_k(t), b] W_k' + bias

as one product x [W_1' W_2' ...] of all rows, whose parts are then added up where they belong: x is
read once however many terms read it, and the products have more columns. So are the gradients: with
the derivative of y spread out the same way, a block of x gives its part of the weight's gradient,
its own gradient, and what natural gradient needs, while it is in the cache.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from nnet.kernels.affine.product import (
    by_units,
    multiply,
    multiply_beside,
    product,
    product_and_squares,
)
from nnet.kernels.affine.scatter import Projection, ScatterObserver, ScatterSums, wanted_of
from nnet.kernels.affine.spliced_blocks import add_rows, time_blocks
from nnet.kernels.affine.squares import powers
from nnet.kernels.affine.terms import NARROW, Observer, Term, column_sums
from nnet.kernels.implementation import Implementation
from nnet.kernels.native import is_native


def is_spread(terms: Sequence[Term], weight: Tensor, source: Tensor) -> bool:
    """Whether this is a way to compute an affine transform: a narrow one of whole rows, which no
    term scales or repeats."""
    dim, columns = weight.shape
    whole = all(
        t.source == 0 and (t.offset, t.dim, t.scale) == (0, source.shape[-1], 1.0) for t in terms
    )
    moving = all(t.step or t.positions is not None or t.length == 1 for t in terms)
    return whole and moving and dim < NARROW and dim <= columns // len(terms)


def spread_affine(
    source: Tensor,
    terms: Sequence[Term],
    weight: Tensor,
    bias: Tensor | None,
    observer: Observer | None = None,
    implementation: Implementation = "reference",
) -> Tensor:
    """The formula above.

    Args:
        source: `(time, batch, dim)`, float32 or float64, on the CPU.
        terms: with `is_spread`; their columns are those of the weight, in order.
        implementation: of products: `native` by matrix units.

    Returns:
        `(times, batch, dim)`.
    """
    trains = torch.is_grad_enabled() and weight.requires_grad
    wanted = wanted_of(observer, weight.dtype) if trains else None
    shown = _Shown(observer, wanted, implementation)
    result: Tensor = _SpreadAffine.apply(tuple(terms), shown, weight, bias, source)
    return result


class _Shown(NamedTuple):
    """An observer, what it wants in place of a call, and by what products are made."""

    observer: Observer | None
    wanted: tuple[Projection, Projection] | None
    implementation: Implementation


def is_range(term: Term, source: Tensor) -> bool:
    """Whether a term reads whole rows at times a step apart."""
    return term.positions is None and term.step > 0 and term.dim == source.shape[-1]


@dataclass(frozen=True, eq=False)
class Left:
    """A derivative with respect to the rows that a term reads, which another operation leaves to
    this one to add to its own for the same source; the term `is_range`."""

    gradient: Tensor
    term: Term

    def rows(self, times: int) -> list[Tensor | None]:
        """For each time of the source its rows of the gradient, without the scale."""
        rows: list[Tensor | None] = [None] * times
        _, start, step, length, *_ = self.term
        rows[start : start + (length - 1) * step + 1 : step] = self.gradient.unbind()
        return rows

    def write(self, target: Tensor, block: slice) -> None:
        """Writes the derivative with respect to the times `block` of the source to `target`."""
        _, start, step, length, *_ = self.term
        bounds = (-(-(time - start) // step) for time in (block.start, block.stop))
        first, end = (min(max(bound, 0), length) for bound in bounds)
        at = start + first * step - block.start
        if end <= first:
            target.zero_()
            return
        last = at + (end - first - 1) * step
        torch.mul(self.gradient[first:end], self.term.scale, out=target[at : last + 1 : step])
        for row in (*range(at), *range(last + 1, len(target))):
            target[row].zero_()
        for between in range(1, step):
            target[at + between : last : step].zero_()


def reader_of(source: Tensor, results: Sequence[Tensor]) -> Any:
    """The node of a spread affine transform of `source` itself, among those that made `results`.

    What depends on those results, and on `source` besides, may leave its derivative with respect to
    `source` in the node's list `left`: the node adds its own while it is in the cache. None if
    there is no such node.
    """
    for result in results:
        node = result.grad_fn
        if isinstance(node, _SpreadAffine._backward_cls) and node.source() is source:
            return node
    return None


class _SpreadAffine(Function):
    source: weakref.ref[Tensor]
    left: list[Left]

    @staticmethod
    def forward(
        ctx: Any,
        terms: tuple[Term, ...],
        shown: _Shown,
        weight: Tensor,
        bias: Tensor | None,
        source: Tensor,
    ) -> Tensor:
        ctx.terms, ctx.shown, ctx.has_bias = terms, shown, bias is not None
        ctx.source, ctx.left = weakref.ref(source), []
        source = source.contiguous()
        stacked = _stacked(weight, terms)
        rows = len(stacked)
        flat = source.flatten(0, 1)
        if shown.wanted is None:
            products, ctx.powers = product(flat, stacked.t(), shown.implementation), None
        else:  # the projection of the rows is some more columns
            stacked = torch.cat((stacked, _stacked(shown.wanted[0].matrix, terms)))
            products, squares = product_and_squares(flat, stacked.t(), shown.implementation)
            ctx.powers = squares.view(source.shape[:2]).sum(1)
        products = products.view(*source.shape[:2], -1)
        ctx.save_for_backward(weight, source, products[..., rows:])
        return _gathered(products[..., :rows], terms, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, source, projected = ctx.saved_tensors
        of_weight, of_bias, of_source = ctx.needs_input_grad[2:]
        left = ctx.left.pop() if ctx.left else None
        given = gradient.contiguous()
        gradients = _Gradients(ctx.terms, weight, source, given, ctx.shown.implementation)
        source_gradient = gradients.of_source(left) if of_source else None
        whole = gradients.of_weight(ctx.shown, projected, ctx.powers) if of_weight else None
        bias = column_sums(gradient) if of_bias and ctx.has_bias else None
        return None, None, whole, bias, source_gradient


def _stacked(weight: Tensor, terms: Sequence[Term]) -> Tensor:
    """W_1, W_2, ... below each other: `(terms dim, columns of one)`."""
    dims = [term.dim for term in terms]
    blocks = weight[:, : sum(dims)].split(dims, dim=1)
    return torch.cat(blocks) if len(blocks) > 1 else blocks[0]


def _gathered(products: Tensor, terms: Sequence[Term], bias: Tensor | None) -> Tensor:
    """The sum of each term's rows of its part of the columns."""
    dim = products.shape[-1] // len(terms)
    parts = products.split(dim, dim=-1)
    first, *more = (t._replace(dim=dim).view(part) for t, part in zip(terms, parts, strict=True))
    if bias is not None:
        more.append(bias)
    if not more:
        return first.contiguous()
    result = first + more[0]
    for rows in more[1:]:
        result.add_(rows)
    return result


def _spread(gradient: Tensor, terms: Sequence[Term], times: int) -> Tensor:
    """Each row of `(times of the result, batch, dim)` in each term's columns at the time that the
    term reads: `(times, batch, terms dim)`."""
    batch, dim = gradient.shape[1:]
    only = terms[0]
    where = (only.positions, only.start, only.step, only.length)
    if len(terms) == 1 and where == (None, 0, 1, times):
        return gradient
    target = gradient.new_zeros((times, batch, len(terms) * dim))
    for term, part in zip(terms, target.split(dim, dim=-1), strict=True):
        add_rows(part, term._replace(dim=dim), gradient)
    return target


class _Gradients:
    """The derivatives with respect to weight and source.

    Args:
        gradient: for the result.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        weight: Tensor,
        source: Tensor,
        gradient: Tensor,
        implementation: Implementation,
    ) -> None:
        self._implementation = implementation
        self._terms, self._weight, self._source = terms, weight, source
        self._gradient, self._spread = gradient, _spread(gradient, terms, len(source))

    def of_source(self, left: Left | None) -> Tensor:
        """The derivative with respect to the source, with what was left to be added."""
        stacked, target = _stacked(self._weight, self._terms), torch.empty_like(self._source)
        spread, rows = self._spread.flatten(0, 1), target.flatten(0, 1)
        native = self._implementation == "native" and by_units(spread, stacked, rows)
        if left is not None and native and is_native(left.gradient):
            beside = left.rows(len(target))
            multiply_beside(spread, stacked, rows, beside, left.term.scale)
            return target
        for block in time_blocks(target, sum(stacked.shape)):
            rows, d = target[block], self._spread[block].flatten(0, 1)
            if left is not None:
                left.write(rows, block)
            add, how = left is not None, self._implementation
            multiply(d, stacked, rows.flatten(0, 1), add=add, implementation=how)
        return target

    def of_weight(self, shown: _Shown, projected: Tensor, of_times: Tensor | None) -> Tensor:
        """The derivative with respect to the weight; shows the observer what it wants.

        Args:
            projected: each row of the source times each term's part of the inputs' projection.
            of_times: sums of squares of the source at each time, if the observer wants sums.
        """
        source, dim = self._source, self._spread.shape[-1]
        sums = source.new_zeros((dim, source.shape[-1]))
        for block in time_blocks(source, source.shape[-1] + dim):
            d, x = (rows[block].flatten(0, 1) for rows in (self._spread, source))
            multiply(d.t(), x, sums, add=True, implementation=self._implementation)
        observer, gradient = shown.observer, self._gradient
        if shown.wanted and of_times is not None and isinstance(observer, ScatterObserver):
            how = self._implementation
            derivatives = ScatterSums.of(shown.wanted[1], how)
            derivatives.add(gradient.flatten(0, 1), power=powers(gradient, how).sum())
            observer.take(self._inputs(shown.wanted[0], projected, of_times), derivatives)
        elif observer is not None:
            observer([(term.view(source), 1.0) for term in self._terms], gradient)
        return torch.cat(sums.split(len(self._weight)), dim=1)

    def _inputs(self, wanted: Projection, projected: Tensor, of_times: Tensor) -> ScatterSums:
        """Sums over the spliced rows."""
        matrix, ones, terms = wanted.matrix, wanted.ones, self._terms
        h = _gathered(projected, terms, matrix[:, -1] if ones else None)
        flat = h.flatten(0, 1)
        read = [t._replace(dim=1).view(of_times.view(-1, 1, 1)).sum() for t in terms]
        weighted = None
        if wanted.weighted:
            spread = _spread(h, terms, len(self._source)).flatten(0, 1)
            parts = product(spread.t(), self._source.flatten(0, 1), self._implementation)
            last = [flat.sum(0).unsqueeze(1)] if ones else []
            weighted = torch.cat([*parts.split(len(matrix)), *last], dim=1)
        power = torch.stack(read).sum() + len(flat) * ones
        return ScatterSums(wanted, len(flat), power, flat.t() @ flat, weighted)
