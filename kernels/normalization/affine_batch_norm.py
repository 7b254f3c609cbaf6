"""An affine transform of spliced rows, rectified, batch-normalised, with a bypass: for training on
a CPU, in blocks of rows that stay in the cache.

    z = max(sum_i x_i[rows_i(t), b] W_i' + bias, 0)
    y = target_rms (z - mean) / sqrt(variance + epsilon) + bypass_scale bypass

with mean and variance of the columns of z over all rows. Or without the transform: z = max(x, 0).

Forward, a block is multiplied, rectified and added up before the next; y takes a second pass over
z, as it needs the statistics. Backward, one pass makes two sums for each column; in a second one
the derivative before the unit is made block by block, and all that is made of it: the gradients of
weight, bias and rows, what the unit stores, and the sums that natural gradient needs. It is written
to memory only where an observer wants it whole, or wide splices have to be added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd import Function

from nnet.kernels.affine.product import by_units, multiply, multiply_rectified, product
from nnet.kernels.affine.scatter import Projection, ScatterObserver, ScatterSums, wanted_of
from nnet.kernels.affine.spliced import affine_gradients
from nnet.kernels.affine.spliced_blocks import SplicedBlocks, add_rows, add_to_sources, time_blocks
from nnet.kernels.affine.spread import Left, is_range, reader_of
from nnet.kernels.affine.squares import powers
from nnet.kernels.affine.terms import Observer, Term
from nnet.kernels.implementation import Implementation, uses_native
from nnet.kernels.normalization.derivative_products import (
    Products,
    derivative_products,
    makes_products,
)
from nnet.kernels.normalization.relu_batch_norm import (
    gradient_sums,
    input_gradient,
    normalize,
    relu_sums,
)


class Watch(Protocol):
    """What a rectified linear unit stores, and its self-repair."""

    def forward(self, values: Tensor, on: Tensor, rows: int) -> None:
        """Sees sums over rows of z and of z > 0, float64 (dim,)."""

    def repair(self) -> Tensor | None:
        """Is called before `backward`: what self-repair adds to the derivative before the unit,
        (dim,)."""

    def backward(self, squares: Tensor, rows: int) -> None:
        """Sees sums over rows of the squared derivatives behind the unit, float64 (dim,)."""


class Normalization(NamedTuple):
    """Settings of batch-norm; columns that are a multiple of `block_dim` apart are one."""

    target_rms: float
    epsilon: float
    block_dim: int


class Statistics(NamedTuple):
    """Mean and variance over `rows` rows, float32 `(block_dim,)`; they have no derivative."""

    mean: Tensor
    variance: Tensor
    rows: int


@dataclass(frozen=True, eq=False)
class Layer:
    """What is computed, but for tensors.

    Attributes:
        terms: what is spliced; empty if there is no transform.
        bypass: its rows of `beside`, and their scale; or None.
        implementation: `native` or `reference`; the same blocks either way.
    """

    norm: Normalization
    terms: tuple[Term, ...] = ()
    bypass: Term | None = None
    observer: Observer | None = None
    watch: Watch | None = None
    implementation: Implementation = "reference"
    reader: Any = None
    """Where the derivative with respect to the bypass is left, if anywhere; see
    `spread_affine.reader_of`."""


def affine_batch_norm(
    layer: Layer,
    sources: Sequence[Tensor],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    beside: Tensor | None = None,
) -> tuple[Tensor, Statistics]:
    """The formulas above.

    Args:
        sources: tensors `(time_i, batch, dim_i)`, float32 or float64; without a transform x alone.
        weight: `(dim, columns)`, or None without a transform.
        bias: `(dim,)` or None.
        beside: `(time, batch, dim)`, what the bypass reads, or None.

    Returns:
        y `(times, batch, dim)`, and the statistics of z.
    """
    uses_native(layer.implementation, weight, bias, *sources)
    if beside is not None and layer.bypass is not None and is_range(layer.bypass, beside):
        reader = reader_of(beside, sources)
        if reader is not None:
            layer, beside = replace(layer, reader=reader), beside.detach()
    y, mean, variance = _AffineBatchNorm.apply(layer, weight, bias, beside, *sources)
    rows = y.numel() // layer.norm.block_dim
    return y, Statistics(mean, variance, rows)


class _AffineBatchNorm(Function):
    @staticmethod
    def forward(
        ctx: Any,
        layer: Layer,
        weight: Tensor | None,
        bias: Tensor | None,
        beside: Tensor | None,
        *sources: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        z, sums = _rectified(layer, sources, weight, bias)
        rows, dim = z.numel() // z.shape[-1], z.shape[-1]
        if layer.watch is not None:
            layer.watch.forward(sums[0], sums[2], rows)
        mean, variance = _moments(sums, rows, layer.norm)
        inverse = (variance + layer.norm.epsilon).rsqrt()
        middle, scale = (_wide(v, dim).to(z.dtype) for v in (mean, layer.norm.target_rms * inverse))
        view = None if beside is None or layer.bypass is None else _view(layer.bypass, beside)
        bypass_scale = 1.0 if layer.bypass is None else layer.bypass.scale
        y = torch.empty_like(z)
        rows_of, how = (z.flatten(0, 1), y.flatten(0, 1)), layer.implementation
        normalize(rows_of[0], middle, scale, view, bypass_scale, rows_of[1], how)
        ctx.layer, ctx.middle, ctx.inverse = layer, middle, inverse
        ctx.beside = None if beside is None else beside.shape
        ctx.save_for_backward(z, weight, bias, *sources)
        statistics = mean.float(), variance.float()
        ctx.mark_non_differentiable(*statistics)
        return y, *statistics

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
        layer: Layer = ctx.layer
        z, weight, bias, *sources = ctx.saved_tensors
        needs = ctx.needs_input_grad[1:]
        gradient = gradient.contiguous()
        beside = None
        if layer.reader is not None and layer.bypass is not None:
            layer.reader.left.append(Left(gradient, layer.bypass))
        if needs[2] and layer.bypass is not None:
            beside = _bypass_gradient(gradient, layer.bypass, ctx.beside)
        if not (any(needs[:2]) or any(needs[3:])):
            return None, None, None, beside, *(None for _ in sources)
        before = _Derivative(gradient, z, ctx.middle, ctx.inverse, layer)
        if weight is None:
            return None, None, None, beside, before.whole()
        gradients = _gradients(before, sources, weight, needs)
        found_bias = None
        if bias is not None and needs[1]:
            found_bias = before.totals[0].to(bias.dtype)
        return None, gradients[0], found_bias, beside, *gradients[1]


def _rectified(
    layer: Layer, sources: Sequence[Tensor], weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """z, and sums (3, dim) of z, of its square and of z > 0."""
    if weight is None:
        x = sources[0].contiguous()
        z = torch.empty_like(x)
        sums = z.new_zeros((3, z.shape[-1]), dtype=torch.float64)
        relu_sums(x.flatten(0, 1), None, z.flatten(0, 1), sums, layer.implementation)
        return z, sums
    spliced = SplicedBlocks(sources, layer.terms, layer.implementation)
    z = weight.new_empty((spliced.times, spliced.batch, weight.shape[0]))
    sums = z.new_zeros((3, z.shape[-1]), dtype=torch.float64)
    if len(spliced.moving) == 1 and not spliced.once:
        (group,) = spliced.moving
        x, matrix, rows = spliced.rows(group, slice(None)), weight.t(), z.flatten(0, 1)
        if layer.implementation == "native" and by_units(x, matrix, rows):
            multiply_rectified(x, matrix, bias, rows, sums, scale=group.terms[0].scale)
            return z, sums
    once = spliced.product_once(weight)
    for block in time_blocks(z, sum(weight.shape)):
        rows = z[block].flatten(0, 1)
        spliced.multiply(block, weight, once, rows)
        relu_sums(rows, bias, rows, sums, layer.implementation)
    return z, sums


def _moments(sums: Tensor, rows: int, norm: Normalization) -> tuple[Tensor, Tensor]:
    """Mean and variance, float64 (block_dim,), of sums (3, dim) over rows."""
    count = rows * sums.shape[1] // norm.block_dim
    total, square = _folded(sums[:2], norm.block_dim) / count
    return total, (square - total.square()).clamp_min_(0)


def _folded(sums: Tensor, block_dim: int) -> Tensor:
    """Sums (n, dim) over blocks of columns: (n, block_dim)."""
    return sums.view(len(sums), -1, block_dim).sum(1)


def _wide(vector: Tensor, dim: int) -> Tensor:
    return vector.repeat(dim // len(vector))


def _view(term: Term, beside: Tensor) -> Tensor:
    """The rows of a bypass (times, batch, dim)."""
    view = term.view(beside)
    return view.expand(term.length, -1, -1) if len(view) < term.length else view


def _bypass_gradient(gradient: Tensor, term: Term, shape: torch.Size) -> Tensor:
    """The derivative with respect to what the bypass reads."""
    if term.step == 0 and term.positions is None:
        gradient = gradient.sum(0, keepdim=True)
    elif term.positions is None and (term.start, term.step) == (0, 1) and gradient.shape == shape:
        return gradient * term.scale
    target = gradient.new_zeros(shape)
    add_rows(target, term, gradient)
    return target


class _Derivative:
    """The derivative before the unit, `(times, batch, dim)`, made block by block.

    Args:
        gradient: for y.
        middle: the mean, (dim,).
        inverse: 1 / sqrt(variance + epsilon), float64 (block_dim,).

    Attributes:
        totals: sums (3, dim) over the rows that were made: of the derivative, of its square, and of
            the square of that behind the unit.
    """

    def __init__(
        self, gradient: Tensor, z: Tensor, middle: Tensor, inverse: Tensor, layer: Layer
    ) -> None:
        self.gradient, self.z, self.layer = gradient, z, layer
        dim, self.rows = z.shape[-1], z.numel() // z.shape[-1]
        sums = z.new_zeros((2, dim), dtype=torch.float64)
        given = gradient.flatten(0, 1), z.flatten(0, 1)
        gradient_sums(*given, middle, sums, layer.implementation)
        count = self.rows * dim // layer.norm.block_dim
        average, product = _folded(sums, layer.norm.block_dim) / count
        vectors = (layer.norm.target_rms * inverse, average, inverse.square() * product)
        repair = None if layer.watch is None else layer.watch.repair()
        if repair is None:
            repair = z.new_zeros(dim)
        scale, mean, slope = (_wide(vector, dim).to(z.dtype) for vector in vectors)
        self._vectors = (middle, scale, mean, slope, repair.to(z.dtype))
        self.totals = z.new_zeros((3, dim), dtype=torch.float64)

    def make(self, block: slice, target: Tensor) -> None:
        """Writes the rows `(rows, dim)` of a block, once each."""
        gradient, z = self.gradient[block].flatten(0, 1), self.z[block].flatten(0, 1)
        how = self.layer.implementation
        input_gradient(gradient, z, self._vectors, target, self.totals, how)

    def products(self, matrix: Tensor, x: Tensor, rank: int) -> Products:
        """The derivative of all rows times `matrix`, and x times that derivative; see
        `derivative_products`."""
        gradient, z = self.gradient.flatten(0, 1), self.z.flatten(0, 1)
        products = derivative_products(gradient, z, self._vectors, matrix, x, rank)
        self.totals += products.sums
        return products

    def whole(self) -> Tensor:
        """The derivative with respect to z for all rows, in memory of its own."""
        target = torch.empty_like(self.z)
        self.make(slice(None), target.flatten(0, 1))
        self.finish()
        return target

    def finish(self) -> None:
        """Lets the unit store what it does, after all blocks."""
        if self.layer.watch is not None:
            self.layer.watch.backward(self.totals[2], self.rows)


_Gradients = tuple[Tensor | None, Sequence[Tensor | None]]


def _gradients(
    before: _Derivative, sources: Sequence[Tensor], weight: Tensor, needs: Sequence[bool]
) -> _Gradients:
    """The derivatives with respect to the weight and the sources."""
    layer = before.layer
    observer = layer.observer if needs[0] else None
    wanted = wanted_of(observer, weight.dtype)
    spliced = SplicedBlocks(sources, layer.terms, layer.implementation)
    joined = len(spliced.moving) == 1 and not spliced.once
    if joined and (observer is None or wanted is not None):
        at_once = layer.implementation == "native" and makes_products(
            before.gradient, before.z, weight, *sources
        )
        way = _at_once if at_once else _in_blocks
        return way(before, spliced, weight, needs, wanted)
    whole = before.whole()
    given = (sources, layer.terms, weight, whole, needs[3:], needs[0], observer)
    return affine_gradients(*given, implementation=layer.implementation)


_Wanted = tuple[Projection, Projection] | None


def _in_blocks(
    before: _Derivative,
    spliced: SplicedBlocks,
    weight: Tensor,
    needs: Sequence[bool],
    wanted: _Wanted,
) -> _Gradients:
    """Derivatives with respect to weight and sources, in blocks of rows that stay in a cache, where
    terms are multiplied together; the derivative with respect to z is not kept."""
    (group,), how = spliced.moving, spliced.implementation
    scale, dim = group.terms[0].scale, weight.shape[0]
    of_weight = weight.new_zeros((weight.shape[1], dim)) if needs[0] else None
    columns = weight.shape[1] if any(needs[3:]) else 0
    matrix = _with_projection(weight[:, :columns], wanted)
    products_of_rows = weight.new_empty((spliced.times, spliced.batch, matrix.shape[1]))
    sums = None if wanted is None else [ScatterSums.of(p, how) for p in wanted]
    for block in time_blocks(before.z, 2 * dim + weight.shape[1]):
        x, products = spliced.rows(group, block), products_of_rows[block].flatten(0, 1)
        derivative = weight.new_empty((len(x), dim))
        before.make(block, derivative)
        if of_weight is not None:
            multiply(x.t(), derivative, of_weight, add=True, scale=scale, implementation=how)
        multiply(derivative, matrix, products, implementation=how)
        if sums is not None:
            scaled = x * scale if scale != 1.0 else x
            sums[0].add(scaled, power=powers(scaled, how).sum())
            sums[1].add(derivative, products[:, columns:])
    before.finish()
    observer = before.layer.observer
    if sums is not None and isinstance(observer, ScatterObserver):
        inputs, derivatives = sums
        derivatives.power += before.totals[1].sum()
        observer.take(inputs, derivatives)
    of_sources: Sequence[Tensor | None] = [None] * len(spliced.sources)
    if columns:
        of_rows = products_of_rows[..., :columns]
        of_sources = add_to_sources(of_rows, spliced.terms, spliced.sources, needs[3:])
    return None if of_weight is None else of_weight.t().contiguous(), of_sources


def _at_once(
    before: _Derivative,
    spliced: SplicedBlocks,
    weight: Tensor,
    needs: Sequence[bool],
    wanted: _Wanted,
) -> _Gradients:
    """Derivatives with respect to weight and sources, in one pass by matrix units."""
    (group,) = spliced.moving
    scale = group.terms[0].scale
    columns = weight.shape[1] if any(needs[3:]) else 0
    matrix = _with_projection(weight[:, :columns], wanted)
    x = spliced.rows(group, slice(None))
    rank = matrix.shape[1] - columns if wanted is not None and wanted[1].weighted else 0
    products = before.products(matrix, x if needs[0] else x[:, :0], rank)
    before.finish()
    observer = before.layer.observer
    if wanted is not None and isinstance(observer, ScatterObserver):
        inputs, scaled = ScatterSums.of(wanted[0], "native"), x * scale if scale != 1.0 else x
        inputs.add(scaled, power=powers(scaled, "native").sum())
        h, power = products.of_rows[:, columns:], before.totals[1].sum()
        weighted = products.of_made if rank else None
        derivatives = ScatterSums(wanted[1], len(h), power, product(h.t(), h, "native"), weighted)
        observer.take(inputs, derivatives)
    of_sources: Sequence[Tensor | None] = [None] * len(spliced.sources)
    if columns:
        of_rows = products.of_rows[:, :columns].view(spliced.times, spliced.batch, columns)
        of_sources = add_to_sources(of_rows, spliced.terms, spliced.sources, needs[3:])
    return (products.of_inputs * scale).t().contiguous() if needs[0] else None, of_sources


def _with_projection(matrix: Tensor, wanted: _Wanted) -> Tensor:
    """A matrix that derivatives are multiplied by; their projection is some more columns."""
    return matrix if wanted is None else torch.cat((matrix, wanted[1].matrix.t()), dim=1)
