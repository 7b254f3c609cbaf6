"""Narrow affine transforms of spliced wide rows against plain torch."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from nnet.kernels.affine.scatter import Projection
from nnet.kernels.affine.spliced import spliced_affine
from nnet.kernels.affine.spread import is_spread, reader_of
from nnet.kernels.affine.terms import Term
from nnet.kernels.implementation import Implementation
from nnet.kernels.normalization.affine_batch_norm import Layer, Normalization, affine_batch_norm
from nnet.training.natural_gradient.vectors import Vectors
from tests.kernels.normalization.test_affine_batch_norm import Observer, close

pytestmark = pytest.mark.usefixtures("small_blocks")


def by_definition(source: Tensor, terms: list[Term], weight: Tensor, bias: Tensor) -> Tensor:
    return torch.cat([term.view(source) for term in terms], dim=-1) @ weight.t() + bias


def case(
    times: int, batch: int, width: int, count: int, dim: int, kind: str, seed: int = 0
) -> tuple[list[Term], list[Tensor]]:
    """Terms, and source, weight and bias."""
    generator = torch.Generator().manual_seed(seed)
    step = 3 if kind == "strided" else 1
    stored = times * step + count
    terms = []
    for number in range(count):
        positions = None
        if kind == "indexed":
            positions = torch.randperm(stored, generator=generator)[:times].sort().values
        terms.append(Term(0, number, step, times, positions, 0, width))
    shapes = (stored, batch, width), (dim, count * width), (dim,)
    return terms, [torch.randn(shape, generator=generator) for shape in shapes]


def compare(
    terms: list[Term], tensors: list[Tensor], tolerance: float, how: Implementation
) -> None:
    """Values and gradients against float64."""
    assert is_spread(terms, tensors[1], tensors[0])
    exact = [t.detach().clone().double().requires_grad_() for t in tensors]
    y = by_definition(exact[0], terms, *exact[1:])
    direction = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    (y * direction).sum().backward()
    ours = [t.detach().clone().requires_grad_() for t in tensors]
    found = spliced_affine([ours[0]], terms, *ours[1:], implementation=how)
    (found * direction.to(found.dtype)).sum().backward()
    assert type(found.grad_fn).__name__ == "_SpreadAffineBackward"
    close(found, y, tolerance)
    for one, other in zip(ours, exact, strict=True):
        close(one.grad, other.grad, tolerance)


KINDS = ["", "strided", "indexed"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_values_and_gradients(count: int, kind: str, small_blocks: Implementation) -> None:
    compare(*case(23, 3, 40, count, 7, kind), 1e-6, small_blocks)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 30), st.integers(1, 4), st.integers(1, 30), st.integers(1, 4),
    st.sampled_from(KINDS), st.integers(0, 100),
)  # fmt: skip
def test_any_size(
    small_blocks: Implementation,
    times: int,
    batch: int,
    width: int,
    count: int,
    kind: str,
    seed: int,
) -> None:
    terms, tensors = case(times, batch, width, count, max(1, width // 2), kind, seed)
    compare(terms, tensors, 1e-5, small_blocks)
    compare(terms, [t.double() for t in tensors], 1e-12, "reference")


def test_a_source_whose_rows_are_not_adjacent(small_blocks: Implementation) -> None:
    how = small_blocks
    terms, (source, weight, bias) = case(23, 3, 40, 2, 7, "")
    apart = source.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    given = apart.detach().requires_grad_(), weight.requires_grad_()
    spliced_affine([given[0]], terms, given[1], bias, implementation=how).square().sum().backward()
    usual = source.clone().requires_grad_()
    result = spliced_affine([usual], terms, weight.detach(), bias, implementation=how)
    result.square().sum().backward()
    torch.testing.assert_close(given[0].grad, usual.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_natural_gradient_gets_the_sums_of_what_it_would_see(
    kind: str, small_blocks: Implementation
) -> None:
    wanted = Projection(torch.randn(3, 81), True, ones=True), Projection(torch.randn(2, 7), True)
    seen = []
    for asked in (None, wanted):
        terms, tensors = case(23, 3, 40, 2, 7, kind)
        given = [t.requires_grad_() for t in tensors]
        observer = Observer(asked)
        result = spliced_affine(
            [given[0]], terms, *given[1:], observer=observer, implementation=small_blocks
        )
        result.square().sum().backward()
        seen.append(observer.seen)
    (rows, gradient), sums = seen
    for vectors, made, projection in zip(
        (Vectors(rows, ones=True), Vectors([(gradient, 1.0)])), sums, wanted, strict=True
    ):
        h = vectors.projected(projection.matrix)
        torch.testing.assert_close(made.power, vectors.power(), rtol=1e-5, atol=0)
        torch.testing.assert_close(made.projected, h.t() @ h, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(made.weighted, vectors.weighted(h), rtol=1e-4, atol=1e-3)
        assert made.count == vectors.count


@pytest.mark.parametrize(("start", "step"), [(0, 1), (1, 1), (2, 3), (5, 2)])
def test_the_gradient_of_a_bypass_is_left_to_the_other_reader(
    start: int, step: int, small_blocks: Implementation
) -> None:
    """As in a factored layer: x -> narrow -> wide, batch-norm, plus x."""
    times, width = 12, 40
    gradients = []
    for leaves in (True, False):
        terms, (source, weight, bias) = case(times, 3, width, 2, 7, "strided")
        wide = torch.randn(width, 7, generator=torch.Generator().manual_seed(5))
        given = [t.requires_grad_() for t in (source, weight, bias, wide)]
        narrow = spliced_affine([source], terms, weight, bias, implementation=small_blocks)
        assert reader_of(source, [narrow]) is narrow.grad_fn
        bypass = Term(0, start, step, times, None, 0, width, 0.66)
        layer = Layer(Normalization(1.0, 1e-3, width), (Term(0, 0, 1, times, None, 0, 7),), bypass)
        layer = dataclasses.replace(layer, implementation=small_blocks)
        beside = source if leaves else source * 1.0
        y, _ = affine_batch_norm(layer, [narrow], wide, None, beside)
        (y * y.detach().cos()).sum().backward()
        gradients.append([t.grad for t in given])
    for left, own in zip(*gradients, strict=True):
        torch.testing.assert_close(left, own, rtol=1e-5, atol=1e-5)


def test_no_reader_of_something_else() -> None:
    terms, (source, weight, bias) = case(23, 3, 40, 2, 7, "")
    result = spliced_affine([source], terms, weight.requires_grad_(), bias)
    assert reader_of(source.clone(), [result]) is None
    assert reader_of(source, [source]) is None


def test_wide_scaled_and_repeated_terms_are_not_spread() -> None:
    terms, (source, weight, _) = case(23, 3, 40, 2, 7, "")
    assert is_spread(terms, weight, source)
    for changed in (terms[0]._replace(scale=2.0), terms[0]._replace(step=0)):
        assert not is_spread([changed], weight[:, :40], source)
    assert not is_spread(terms, torch.randn(50, 80), source)
