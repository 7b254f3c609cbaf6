"""Affine transforms of spliced rows, without putting the spliced rows side by side.

y[t, b] = act(sum_i scale_i x_i[rows_i(t), b, columns_i] W_i' + bias) * scales + offsets + bypass

This is nnet3's TdnnComponent and every affine component on an Append of Offsets. Rows are stored
time-major, `(time, batch, dim)`, so that a splice is a range of rows. The torch code below is the
reference, and, with products by matrix units, the native one; the kernels are in
`nnet.kernels.affine.gpu.forward`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nnet.kernels.affine.product import multiply, product, product_with_bias
from nnet.kernels.affine.spread import is_spread, spread_affine
from nnet.kernels.affine.terms import (
    NARROW,
    Epilogue,
    Observer,
    Term,
    as_matrix,
    column_sums,
)
from nnet.kernels.functions import FUNCTIONS
from nnet.kernels.implementation import Implementation, triton_file, uses_native, uses_triton
from nnet.kernels.windows.windows import resident


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
    uses_native(implementation, weight, *sources)
    differentiable = torch.is_grad_enabled() and any(
        x is not None and x.requires_grad for x in (*sources, weight, bias)
    )
    if differentiable:
        if not triton and epilogue == Epilogue() and _is_spread(sources, terms, weight):
            return spread_affine(sources[0], terms, weight, bias, observer, implementation)
        options = (tuple(terms), epilogue.activation, observer, implementation)
        result = _SplicedAffine.apply(options, weight, bias, *sources)
        rest = epilogue._replace(activation="")
        return result if rest == Epilogue() else finish(result.clone(), sources, rest)
    if triton:
        forward = triton_file("affine.gpu.forward").forward
        return forward(sources, terms, weight, bias, epilogue)
    return finish(_forward(sources, terms, weight, bias, implementation), sources, epilogue)


def _is_spread(sources: Sequence[Tensor], terms: Sequence[Term], weight: Tensor) -> bool:
    """Whether this is trained on a CPU, in a way that reads the rows of a source once."""
    source, exact = sources[0], (torch.float32, torch.float64)
    alike = source.dtype == weight.dtype and weight.dtype in exact
    on_cpu = weight.device.type == source.device.type == "cpu"
    return alike and on_cpu and len(sources) == 1 and is_spread(terms, weight, source)


def _forward(
    sources: Sequence[Tensor],
    terms: Sequence[Term],
    weight: Tensor,
    bias: Tensor | None,
    implementation: Implementation,
) -> Tensor:
    count = max(term.length for term in terms)
    batch = sources[0].shape[1]
    result: Tensor | None = None
    repeated: Tensor | None = None
    column = 0
    for term in terms:
        block = weight[:, column : column + term.dim].t()
        column += term.dim
        rows = as_matrix(term.view(sources[term.source]))
        if term.step == 0 and term.positions is None and count > 1:
            part = torch.mm(rows, block)
            part = part * term.scale if term.scale != 1.0 else part
            repeated = part if repeated is None else repeated + part
        elif result is None:
            result = product_with_bias(rows, block, bias, term.scale, implementation)
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
    """Applies activation, scales, offsets and bypass to a result `(length, batch, dim)`, in
    place."""
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
        gradients = affine_gradients(
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
        return (None, gradients[0], bias_gradient, *gradients[1])


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
    """The derivatives with respect to the weight and to each source, as far as they are needed.

    Args:
        sources, terms, weight, observer, implementation: as for `spliced_affine`.
        gradient: for its result without epilogue, `(count, batch, dim)`.
    """
    if observer is not None and needs_weight:
        observer([(term.view(sources[term.source]), term.scale) for term in terms], gradient)
    if uses_triton(implementation, weight, gradient, *sources):
        return _triton_gradients(sources, terms, weight, gradient, needs_source, needs_weight)
    weight_gradient = None
    if needs_weight:
        weight_gradient = _weight_gradient(sources, terms, weight, gradient, implementation)
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
                source_gradients[term.source] = _first_rows(
                    source, term, own, block, implementation
                )
            else:
                _add_rows(target, term, own, block, implementation)
    return weight_gradient, source_gradients


def _triton_gradients(
    sources: Sequence[Tensor],
    terms: Sequence[Term],
    weight: Tensor,
    gradient: Tensor,
    needs_source: Sequence[bool],
    needs_weight: bool,
) -> tuple[Tensor | None, list[Tensor | None]]:
    source_gradient = triton_file("affine.gpu.source").source_gradient
    weight_gradient = triton_file("affine.gpu.weight").weight_gradient
    first = [0, *accumulate(term.dim for term in terms)]
    of_weight = weight_gradient(sources, terms, gradient) if needs_weight else None
    of_sources: list[Tensor | None] = []
    for number, (source, needed) in enumerate(zip(sources, needs_source, strict=True)):
        own = [i for i, term in enumerate(terms) if term.source == number]
        read = [terms[i]._replace(source=0) for i in own]
        columns = [first[i] for i in own]
        of_source = source_gradient(source, read, columns, weight, gradient) if needed else None
        of_sources.append(of_source)
    return of_weight, of_sources


def _once(gradient: Tensor, term: Term) -> Tensor:
    """The derivative with respect to a term's rows: its sum over time if they are the same at all
    times."""
    if term.step == 0 and term.positions is None:
        return gradient.sum(dim=0, keepdim=True)
    return gradient


def _weight_gradient(
    sources: Sequence[Tensor],
    terms: Sequence[Term],
    weight: Tensor,
    gradient: Tensor,
    implementation: Implementation,
) -> Tensor:
    views = [term.view(sources[term.source]) for term in terms]
    whole = all(
        len(view) == len(gradient) and t.scale == 1.0 for view, t in zip(views, terms, strict=True)
    )
    if whole and len(terms) > 1 and min(term.dim for term in terms) < NARROW:
        return _of_products(
            as_matrix(gradient), as_matrix(torch.cat(views, dim=-1)), implementation
        )
    if whole and len(terms) == 1:
        return _of_products(as_matrix(gradient), as_matrix(views[0]), implementation)
    result = torch.empty_like(weight)
    column = 0
    for term, view in zip(terms, views, strict=True):
        part = result[:, column : column + term.dim]
        column += term.dim
        part.copy_(_of_products(as_matrix(_once(gradient, term)), as_matrix(view), implementation))
        if term.scale != 1.0:
            part.mul_(term.scale)
    return result


MANY_ROWS = 2048
"""From so many rows on, the order of a weight's gradient in memory matters more than a copy."""


def _of_products(gradient: Tensor, rows: Tensor, implementation: Implementation) -> Tensor:
    """gradient' rows. Of many rows, the result's longer side is last in memory: that is faster."""
    if rows.shape[1] < gradient.shape[1] and len(rows) >= MANY_ROWS:
        return product(rows.t(), gradient, implementation).t()
    return product(gradient.t(), rows, implementation)


def _first_rows(
    source: Tensor, term: Term, gradient: Tensor, block: Tensor, implementation: Implementation
) -> Tensor:
    """A source's gradient from its first term: where that is a range of rows, written at once."""
    whole = term.positions is None and term.step == 1 and term.dim == source.shape[-1]
    if not (whole and source.is_contiguous()):
        target = torch.zeros_like(source)
        _add_rows(target, term, gradient, block, implementation)
        return target
    target = torch.empty_like(source)
    target[: term.start].zero_()
    target[term.start + term.length :].zero_()
    rows = as_matrix(term.view(target))
    multiply(as_matrix(gradient), block, rows, scale=term.scale, implementation=implementation)
    return target


def _add_rows(
    target: Tensor, term: Term, gradient: Tensor, block: Tensor, implementation: Implementation
) -> None:
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
        given = as_matrix(gradient)
        multiply(given, block, rows, add=True, scale=term.scale, implementation=implementation)
    else:
        view.add_(torch.matmul(gradient, block), alpha=term.scale)
