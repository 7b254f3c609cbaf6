"""The affine transform with ReLU, batch-norm and bypass in blocks, against plain torch."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from nnet.kernels.affine.scatter import Projection, ScatterObserver, ScatterSums
from nnet.kernels.affine.terms import Term
from nnet.kernels.implementation import Implementation
from nnet.kernels.normalization.affine_batch_norm import Layer, Normalization, affine_batch_norm
from nnet.training.natural_gradient.vectors import Vectors

TARGET_RMS, EPSILON = 0.7, 1e-3

pytestmark = pytest.mark.usefixtures("small_blocks")


class Unit:
    """A unit that repairs and remembers what it is shown."""

    def __init__(self, repair: Tensor | None) -> None:
        self.shown: dict[str, Tensor] = {}
        self._repair = repair

    def forward(self, values: Tensor, on: Tensor, rows: int) -> None:
        self.shown |= {"values": values, "on": on, "rows": torch.tensor(rows)}

    def repair(self) -> Tensor | None:
        return self._repair

    def backward(self, squares: Tensor, rows: int) -> None:
        self.shown |= {"squares": squares, "rows again": torch.tensor(rows)}


class _Repaired(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, repair):
        ctx.save_for_backward(repair)
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient + ctx.saved_tensors[0], None


def by_definition(
    layer: Layer,
    sources: list[Tensor],
    weight: Tensor | None,
    bias: Tensor | None,
    beside: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y, mean and variance, and z whose gradient is kept."""
    x = sources[0]
    if weight is not None:
        length = max(term.length for term in layer.terms)
        pieces = [(t.view(sources[t.source]) * t.scale).expand(length, -1, -1) for t in layer.terms]
        x = torch.cat(pieces, dim=-1) @ weight.t()
        x = x if bias is None else x + bias
    repair = layer.watch.repair() if layer.watch else None
    x = x if repair is None else _Repaired.apply(x, repair.to(x))
    z = x.relu()
    z.retain_grad()
    norm = layer.norm
    rows = z.reshape(-1, norm.block_dim)
    mean, variance = rows.mean(0), rows.var(0, correction=0)
    y = ((rows - mean) * norm.target_rms / (variance + norm.epsilon).sqrt()).view(z.shape)
    if layer.bypass is not None:
        y = y + layer.bypass.scale * layer.bypass.view(beside)
    return y, mean, variance, z


def case(
    times: int, batch: int, dims: tuple[int, ...], dim: int, *, kind: str = "", seed: int = 0
) -> tuple[Layer, list[Tensor | None]]:
    """A layer with terms of these dims, and its tensors: weight, bias, beside, sources."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    source = random(2 * times + 4, batch, sum(dims))
    terms, offset = [], 0
    for number, width in enumerate(dims):
        step = 2 if kind == "strided" else 1
        term = Term(0, number, step, times, None, offset, width, 1.5 if kind == "scaled" else 1.0)
        if kind == "indexed":
            positions = torch.randperm(len(source), generator=generator)[:times].sort().values
            term = term._replace(positions=positions)
        if kind == "once" and number == len(dims) - 1:
            term = term._replace(step=0)
        offset += width
        terms.append(term)
    bypass = Term(0, 1, 2, times, None, 0, dim, 0.66)
    blocks = 2 if kind == "blocks" else 1
    norm = Normalization(TARGET_RMS, EPSILON, dim // blocks)
    repair = 0.01 * random(dim)
    layer = Layer(norm, tuple(terms), bypass, watch=Unit(repair))
    return layer, [
        random(dim, sum(dims)) / 3,
        random(dim),
        random(2 * times + 1, batch, dim),
        source,
    ]


def compare(
    layer: Layer, tensors: list[Tensor | None], tolerance: float, how: Implementation
) -> None:
    """Values, statistics and all gradients against float64."""
    exact = [None if t is None else t.clone().double().requires_grad_() for t in tensors]
    unit = Unit(layer.watch.repair())
    plain = dataclasses.replace(layer, watch=unit)
    y, mean, variance, z = by_definition(plain, exact[3:], *exact[:3])
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(y.shape, dtype=torch.float64, generator=generator)
    (y * direction).sum().backward()
    given = [None if t is None else t.detach().clone().requires_grad_() for t in tensors]
    how = how if tensors[3].dtype == torch.float32 else "reference"
    layer = dataclasses.replace(layer, implementation=how)
    found, statistics = affine_batch_norm(layer, given[3:], *given[:3])
    (found * direction.to(found.dtype)).sum().backward()
    close(found, y, tolerance)
    close(statistics.mean, mean, max(tolerance, 1e-6))
    close(statistics.variance, variance, max(tolerance, 1e-6))
    largest = float((variance.detach() + EPSILON).rsqrt().max())  # factor of what cancels out
    for ours, theirs in zip(given, exact, strict=True):
        if ours is not None:
            close(ours.grad, theirs.grad, 3 * tolerance * max(1.0, largest))
    shown = layer.watch.shown
    flat = z.detach().flatten(0, 1)
    close(shown["values"], flat.sum(0), tolerance)
    assert torch.equal(shown["on"], (flat > 0).double().sum(0))
    close(shown["squares"], z.grad.flatten(0, 1).square().sum(0), 10 * tolerance)
    assert shown["rows"] == shown["rows again"] == len(flat)


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Sums of what cancels out are as exact as terms of size 0.1."""
    error = (found.detach().double() - expected.detach()).norm()
    assert error <= tolerance * max(0.1, float(expected.detach().norm()))


KINDS = ["", "strided", "scaled", "indexed", "once", "blocks"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [(7,), (5, 5), (300, 4)])
def test_values_statistics_and_gradients(
    dims: tuple[int, ...], kind: str, small_blocks: Implementation
) -> None:
    compare(*case(23, 3, dims, 18, kind=kind), 3e-6, small_blocks)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 40), st.integers(1, 5), st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.integers(1, 70), st.sampled_from(KINDS[:-1]), st.integers(0, 100),
)  # fmt: skip
def test_any_size(
    small_blocks: Implementation,
    times: int,
    batch: int,
    dims: list[int],
    dim: int,
    kind: str,
    seed: int,
) -> None:
    layer, tensors = case(times, batch, tuple(dims), dim, kind=kind, seed=seed)
    compare(layer, [t if t is None else t.double() for t in tensors], 1e-9, small_blocks)
    if times * batch > 4:  # with fewer rows, what is normalised is mostly rounding
        compare(layer, tensors, 1e-4, small_blocks)


def test_without_an_affine_transform(small_blocks: Implementation) -> None:
    layer, tensors = case(23, 3, (7,), 18)
    layer = dataclasses.replace(layer, terms=())
    compare(layer, [None, None, tensors[2], torch.randn(23, 3, 18)], 3e-6, small_blocks)


def test_without_bias_and_bypass(small_blocks: Implementation) -> None:
    layer, tensors = case(23, 3, (7,), 18)
    layer = dataclasses.replace(layer, bypass=None)
    compare(layer, [tensors[0], None, None, tensors[3]], 3e-6, small_blocks)


def test_a_mean_that_is_large_beside_the_deviation(small_blocks: Implementation) -> None:
    layer, tensors = case(200, 4, (7,), 18)
    tensors[1] = torch.full((18,), 300.0)
    layer = dataclasses.replace(layer, implementation=small_blocks)
    _, statistics = affine_batch_norm(layer, tensors[3:], *tensors[:3])
    exact = [None if t is None else t.double().requires_grad_() for t in tensors]
    _, _, variance, _ = by_definition(layer, exact[3:], *exact[:3])
    close(statistics.variance, variance, 1e-4)


def test_with_each_instruction_set(instruction_set: str) -> None:
    compare(*case(23, 3, (5, 5), 18), 3e-6, "native")


def test_two_threads_give_what_one_gives(small_blocks: Implementation) -> None:
    results = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        layer, tensors = case(23, 3, (5, 5), 18)
        layer = dataclasses.replace(layer, implementation=small_blocks)
        given = [t.requires_grad_() for t in tensors]
        y, statistics = affine_batch_norm(layer, given[3:], *given[:3])
        y.square().sum().backward()
        torch.set_num_threads(before)
        results.append((y, *statistics[:2], *layer.watch.shown.values(), *(t.grad for t in given)))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
    for one, two in zip(results[0][:5], results[1][:5], strict=True):
        assert torch.equal(one, two)


class Observer(ScatterObserver):
    """Wants sums, or everything."""

    def __init__(self, wanted: tuple[Projection, Projection] | None) -> None:
        self.wanted = wanted
        self.seen: tuple = ()

    def projections(self) -> tuple[Projection, Projection] | None:
        return self.wanted

    def take(self, inputs: ScatterSums, derivatives: ScatterSums) -> None:
        self.seen = (inputs, derivatives)

    def __call__(self, rows, gradient) -> None:
        self.seen = (rows, gradient)


@pytest.mark.parametrize("kind", ["", "scaled", "indexed"])
def test_natural_gradient_gets_the_sums_of_what_it_would_see(
    kind: str, small_blocks: Implementation
) -> None:
    wanted = Projection(torch.randn(2, 11), True, ones=True), Projection(torch.randn(3, 18), True)
    seen = []
    for asked in (None, wanted):
        layer, tensors = case(23, 3, (5, 5), 18, kind=kind)
        observer = Observer(asked)
        layer = dataclasses.replace(layer, observer=observer, implementation=small_blocks)
        given = [t.requires_grad_() for t in tensors]
        y, _ = affine_batch_norm(layer, given[3:], *given[:3])
        y.square().sum().backward()
        seen.append(layer.observer.seen)
    (rows, gradient), sums = seen
    for vectors, made, projection in zip(
        (Vectors(rows, ones=True), Vectors([(gradient, 1.0)])), sums, wanted, strict=True
    ):
        h = vectors.projected(projection.matrix)
        torch.testing.assert_close(made.power, vectors.power(), rtol=1e-5, atol=0)
        torch.testing.assert_close(made.projected, h.t() @ h, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(made.weighted, vectors.weighted(h), rtol=1e-4, atol=1e-4)
        assert made.count == vectors.count
