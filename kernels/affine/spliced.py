"""Affine transforms of spliced rows, without putting the spliced rows side by side.

y[t, b] = act(sum_i scale_i x_i[rows_i(t), b, columns_i] W_i' + bias) * scales + offsets + bypass

This is nnet3's TdnnComponent and every affine component on an Append of Offsets. Rows are stored
time-major, `(time, batch, dim)`, so that a splice is a range of rows. The torch code below is the
reference and the CPU path; the kernels are in `nnet.kernels.affine.gpu.forward`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from nnet.kernels.affine.product import multiply, product, product_with_bias
from nnet.kernels.functions import FUNCTIONS
from nnet.kernels.implementation import Implementation, uses_triton
from nnet.kernels.windows.windows import resident


class Term(NamedTuple):
    """Which rows and columns of which source.

    Rows `start, start + step, ...` (`length` of them; step 0 repeats one row), or those at
    `positions`; columns `offset` .. `offset + dim`; all times `scale`.
    """

    source: int
    start: int
    step: int
    length: int
    positions: Tensor | None
    offset: int
    dim: int
    scale: float = 1.0

    def view(self, source: Tensor) -> Tensor:
        """The term's rows `(length or 1, batch, dim)`, a view wherever strides can express it."""
        if self.offset or self.dim != source.shape[-1]:
            source = source.narrow(-1, self.offset, self.dim)
        if self.positions is not None:
            return source.index_select(0, resident(self.positions, source.device))
        if self.step == 0:
            return source[self.start : self.start + 1]
        if self.start == 0 and self.step == 1 and self.length == source.shape[0]:
            return source
        return source[self.start : self.start + (self.length - 1) * self.step + 1 : self.step]


class Epilogue(NamedTuple):
    """What follows the affine transform before the result is stored.

    `activation` is '' or a name in `nnet.kernels.functions.FUNCTIONS`; `scales` and `offsets` are
    `(dim,)` or None; `bypass` terms of the same columns as the result are added last.
    """

    activation: str = ""
    scales: Tensor | None = None
    offsets: Tensor | None = None
    bypass: tuple[Term, ...] = ()


Rows = tuple[Tensor, float]
"""A term's rows `(count or 1, batch, dim)` and their scale."""

Observer = Callable[[Sequence[Rows], Tensor], None]
"""Sees, in the backward pass, the terms' rows and the derivative `(count, batch, dim)` of the
result: what natural gradient is computed from."""


def spliced_affine(
    sources: Sequence[Tensor],
    terms: Sequence[Term],
    weight: Tensor,
    bias: Tensor | None,
    epilogue: Epilogue | None = None,
    observer: Observer | None = None,
    *,
    implementation: Implementation = "reference",
) -> Tensor:
    """The formula above.

    Args:
        sources: tensors `(time_i, batch, dim_i)`; `Term.source` counts them.
        terms: what is spliced; their columns add up to those of `weight`.
        weight: `(dim, columns)`.
        bias: `(dim,)` or None.
        observer: is called in the backward pass.

    Returns:
        `(count, batch, dim)`.
    """
    if torch.is_autocast_enabled(weight.device.type):
        dtype = torch.get_autocast_dtype(weight.device.type)
        sources = [source.to(dtype) for source in sources]
        weight, bias = weight.to(dtype), bias if bias is None else bias.to(dtype)
    epilogue = epilogue or Epilogue()
    triton = uses_triton(implementation, weight, *sources)
    differentiable = torch.is_grad_enabled() and any(
        x is not None and x.requires_grad for x in (*sources, weight, bias)
    )
    if differentiable:
        if not triton and epilogue == Epilogue() and _is_spread(sources, terms, weight):
            from nnet.kernels.affine.spread import spread_affine

            return spread_affine(sources[0], terms, weight, bias, observer)
        options = (tuple(terms), epilogue.activation, observer, implementation)
        result = _SplicedAffine.apply(options, weight, bias, *sources)
        rest = epilogue._replace(activation="")
        return result if rest == Epilogue() else finish(result.clone(), sources, rest)
    if triton:
        from nnet.kernels.affine.gpu.forward import forward

        return forward(sources, terms, weight, bias, epilogue)
    return finish(_forward(sources, terms, weight, bias), sources, epilogue)


def _is_spread(sources: Sequence[Tensor], terms: Sequence[Term], weight: Tensor) -> bool:
    """Whether this is trained on a CPU, in a way that reads the rows of a source once."""
    from nnet.kernels.affine.spread import is_spread

    source, exact = sources[0], (torch.float32, torch.float64)
    alike = source.dtype == weight.dtype and weight.dtype in exact
    on_cpu = weight.device.type == source.device.type == "cpu"
    return alike and on_cpu and len(sources) == 1 and is_spread(terms, weight, source)


def _rows(view: Tensor) -> Tensor:
    """A term as a matrix: `(count * batch, dim)`, without a copy if strides allow."""
    return view.squeeze(1) if view.shape[1] == 1 else view.reshape(-1, view.shape[-1])


def _forward(
    sources: Sequence[Tensor], terms: Sequence[Term], weight: Tensor, bias: Tensor | None
) -> Tensor:
    count = max(term.length for term in terms)
    batch = sources[0].shape[1]
    result: Tensor | None = None
    repeated: Tensor | None = None
    column = 0
    for term in terms:
        block = weight[:, column : column + term.dim].t()
        column += term.dim
        rows = _rows(term.view(sources[term.source]))
        if term.step == 0 and term.positions is None and count > 1:
            part = torch.mm(rows, block)
            part = part * term.scale if term.scale != 1.0 else part
            repeated = part if repeated is None else repeated + part
        elif result is None:
            result = product_with_bias(rows, block, bias, term.scale)
        else:
            result.addmm_(rows, block, alpha=term.scale)
    return _joined(result, repeated, bias, (count, batch, weight.shape[0]))


def _joined(
    result: Tensor | None, repeated: Tensor | None, bias: Tensor | None, shape: tuple[int, int, int]
) -> Tensor:
    """Adds what is the same at all times to the rest, if there is a rest."""
    if result is not None:
        result = result.view(shape)
        return result if repeated is None else result.add_(repeated)
    assert repeated is not None
    row = repeated if bias is None else repeated + bias
    return row.expand(shape).contiguous()


def finish(result: Tensor, sources: Sequence[Tensor], epilogue: Epilogue) -> Tensor:
    """The epilogue, in place."""
    if epilogue.activation:
        FUNCTIONS[epilogue.activation].in_place(result)
    if epilogue.scales is not None:
        result.mul_(epilogue.scales)
    if epilogue.offsets is not None:
        result.add_(epilogue.offsets)
    for term in epilogue.bypass:
        result.add_(term.view(sources[term.source]), alpha=term.scale)
    return result


_Options = tuple[tuple[Term, ...], str, Observer | None, Implementation]


class _SplicedAffine(Function):
    """The transform and its activation; derivatives are accumulated in place, term by term."""

    @staticmethod
    def forward(
        ctx: Any, options: _Options, weight: Tensor, bias: Tensor | None, *sources: Tensor
    ) -> Tensor:
        terms, activation, _, implementation = options
        ctx.options = options
        ctx.has_bias = bias is not None
        function = FUNCTIONS.get(activation)
        apart = function is not None and function.slope_of_input
        epilogue = Epilogue("" if apart else activation)
        result = spliced_affine(
            sources, terms, weight, bias, epilogue, implementation=implementation
        )
        ctx.save_for_backward(weight, None if function is None else result, *sources)
        return function.value(result) if apart and function is not None else result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, kept, *sources = ctx.saved_tensors
        terms, activation, observer, implementation = ctx.options
        needs_weight, needs_bias, *needs_source = ctx.needs_input_grad[1:]
        if activation:
            gradient = FUNCTIONS[activation].backward(gradient, kept)
        found = affine_gradients(
            sources,
            terms,
            weight,
            gradient.contiguous(),
            needs_source,
            needs_weight,
            observer,
            implementation=implementation,
        )
        bias_gradient = column_sums(gradient) if needs_bias and ctx.has_bias else None
        return (None, found[0], bias_gradient, *found[1])


def column_sums(rows: Tensor) -> Tensor:
    """The sum of rows `(count, batch, dim)`, as a matrix product: several times faster."""
    matrix = _rows(rows)
    return torch.mm(matrix.new_ones((1, matrix.shape[0])), matrix).squeeze(0)


def affine_gradients(
    sources: Sequence[Tensor],
    terms: Sequence[Term],
    weight: Tensor,
    gradient: Tensor,
    needs_source: Sequence[bool],
    needs_weight: bool,
    observer: Observer | None = None,
    *,
    implementation: Implementation = "reference",
) -> tuple[Tensor | None, list[Tensor | None]]:
    """The gradients for the weight and for each source, as far as they are needed.

    Args:
        sources, terms, weight, observer, implementation: as for `spliced_affine`.
        gradient: for its result without epilogue, `(count, batch, dim)`.
    """
    if observer is not None and needs_weight:
        observer([(term.view(sources[term.source]), term.scale) for term in terms], gradient)
    if uses_triton(implementation, weight, gradient, *sources):
        return _triton_gradients(sources, terms, weight, gradient, needs_source, needs_weight)
    weight_gradient = _weight_gradient(sources, terms, weight, gradient) if needs_weight else None
    source_gradients: list[Tensor | None] = [None] * len(sources)
    column = 0
    for term in terms:
        columns = slice(column, column + term.dim)
        column += term.dim
        if needs_source[term.source]:
            own = _once(gradient, term)
            target = source_gradients[term.source]
            block = weight[:, columns]
            if target is None:
                source = sources[term.source]
                source_gradients[term.source] = _first_rows(source, term, own, block)
            else:
                _add_rows(target, term, own, block)
    return weight_gradient, source_gradients


def _triton_gradients(
    sources: Sequence[Tensor],
    terms: Sequence[Term],
    weight: Tensor,
    gradient: Tensor,
    needs_source: Sequence[bool],
    needs_weight: bool,
) -> tuple[Tensor | None, list[Tensor | None]]:
    from nnet.kernels.affine.gpu.source import source_gradient
    from nnet.kernels.affine.gpu.weight import weight_gradient

    first = [0, *accumulate(term.dim for term in terms)]
    of_weight = weight_gradient(sources, terms, gradient) if needs_weight else None
    of_sources: list[Tensor | None] = []
    for number, (source, needed) in enumerate(zip(sources, needs_source, strict=True)):
        own = [i for i, term in enumerate(terms) if term.source == number]
        read = [terms[i]._replace(source=0) for i in own]
        columns = [first[i] for i in own]
        found = source_gradient(source, read, columns, weight, gradient) if needed else None
        of_sources.append(found)
    return of_weight, of_sources


NARROW = 256
"""Terms of fewer columns are put side by side with others for the weight's gradient: a product with
few columns is slower than a copy of them."""


def _once(gradient: Tensor, term: Term) -> Tensor:
    """The gradient for a term's rows: its sum over time if they are the same at all times."""
    if term.step == 0 and term.positions is None:
        return gradient.sum(dim=0, keepdim=True)
    return gradient


def _weight_gradient(
    sources: Sequence[Tensor], terms: Sequence[Term], weight: Tensor, gradient: Tensor
) -> Tensor:
    views = [term.view(sources[term.source]) for term in terms]
    whole = all(
        len(view) == len(gradient) and t.scale == 1.0 for view, t in zip(views, terms, strict=True)
    )
    if whole and len(terms) > 1 and min(term.dim for term in terms) < NARROW:
        return _of_products(_rows(gradient), _rows(torch.cat(views, dim=-1)))
    if whole and len(terms) == 1:
        return _of_products(_rows(gradient), _rows(views[0]))
    result = torch.empty_like(weight)
    column = 0
    for term, view in zip(terms, views, strict=True):
        part = result[:, column : column + term.dim]
        column += term.dim
        part.copy_(_of_products(_rows(_once(gradient, term)), _rows(view)))
        if term.scale != 1.0:
            part.mul_(term.scale)
    return result


MANY_ROWS = 2048
"""From so many rows on, the order of a weight's gradient in memory matters more than a copy."""


def _of_products(gradient: Tensor, rows: Tensor) -> Tensor:
    """gradient' rows. Of many rows, the result's longer side is last in memory: that is faster."""
    if rows.shape[1] < gradient.shape[1] and len(rows) >= MANY_ROWS:
        return product(rows.t(), gradient).t()
    return product(gradient.t(), rows)


def _first_rows(source: Tensor, term: Term, gradient: Tensor, block: Tensor) -> Tensor:
    """A source's gradient from its first term: where that is a range of rows, written at once."""
    whole = term.positions is None and term.step == 1 and term.dim == source.shape[-1]
    if not (whole and source.is_contiguous()):
        target = torch.zeros_like(source)
        _add_rows(target, term, gradient, block)
        return target
    target = torch.empty_like(source)
    target[: term.start].zero_()
    target[term.start + term.length :].zero_()
    rows = _rows(term.view(target))
    multiply(_rows(gradient), block, rows, scale=term.scale)
    return target


def _add_rows(target: Tensor, term: Term, gradient: Tensor, block: Tensor) -> None:
    """Adds `scale * gradient block` to the rows of `target` that the term reads."""
    if term.positions is not None:
        part = torch.matmul(gradient, block).mul_(term.scale)
        positions = resident(term.positions, target.device)
        target.narrow(-1, term.offset, term.dim).index_add_(0, positions, part)
        return
    view = term.view(target)
    rows = view.squeeze(1) if view.shape[1] == 1 else None
    if rows is None and view.is_contiguous():
        rows = view.view(-1, view.shape[-1])
    if rows is not None:
        multiply(_rows(gradient), block, rows, add=True, scale=term.scale)
    else:
        view.add_(torch.matmul(gradient, block), alpha=term.scale)
