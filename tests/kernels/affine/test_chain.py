"""A chain of affine transforms in C++ is the transforms one by one, on odd sizes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnet.kernels.affine import packed as packed_affine
from nnet.kernels.affine.chain import AffineChain, Link
from nnet.kernels.affine.packed import can_pack, has_bf16_units, pack
from nnet.kernels.affine.spliced import spliced_affine
from nnet.kernels.affine.terms import Epilogue, Term

NAN = float("nan")

pytestmark = pytest.mark.usefixtures("instruction_set")


@pytest.fixture(autouse=True)
def poisoned_memory():
    """Memory that is not written yet is NaN."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "new_empty", lambda x, shape: x.new_full(as_shape(shape), NAN))
        yield


def as_shape(shape) -> tuple[int, ...]:
    return shape if isinstance(shape, tuple) else (shape,)


def test_some_activations_can_be_finished_with():
    assert can_pack("relu")
    assert not can_pack("sigmoid")


class Chain:
    """Transforms with random weights, and what they give one by one in float64."""

    def __init__(self, seed: int, batch: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.batch = batch
        self.links: list[Link] = []
        self.blocks: list[list[torch.Tensor]] = []
        self.values: dict[int, torch.Tensor] = {}
        self.outer: list[int] = []

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator)

    def value(self, times: int, dim: int) -> int:
        """A value from outside."""
        number = len(self.values)
        self.values[number] = self.random(times, self.batch, dim).double()
        self.outer.append(number)
        return number

    def affine(self, dim, times, terms, *, relu=False, norm=False, bypass=(), own_bias=None):
        """A value made of `terms` and `bypass`: (value, start, step, offset, columns)."""
        read = list(dict.fromkeys(value for value, *_ in (*terms, *bypass)))

        def term(value, start, step, offset, columns, scale=1.0):
            return Term(read.index(value), start, step, times, None, offset, columns, scale)

        spliced = tuple(term(*given) for given in terms)
        beside = tuple(term(*given, 0.75) for given in bypass)
        columns = sum(t.dim for t in spliced)
        weight = self.random(dim, columns) / columns**0.5
        bias = self.random(dim)
        scales = (self.random(dim), self.random(dim)) if norm else (None, None)
        epilogue = Epilogue("relu" if relu else "", *scales, beside)
        made = len(self.values)
        self.blocks.append([part.t() for part in weight.split([t.dim for t in spliced], dim=1)])
        link = Link(made, times, dim, tuple(read), spliced, None, bias, own_bias, epilogue)
        self.links.append(link)
        sources = [self.values[value] for value in read]
        plain = spliced_affine(sources, spliced, weight.double(), None, Epilogue())
        plain += bias.double() if own_bias is None else self.values[own_bias]
        if relu:
            plain = plain.relu()
        if norm:
            plain = plain * scales[0] + scales[1]
        for other in beside:
            plain = plain + other.scale * other.view(sources[other.source])
        self.values[made] = plain
        return made

    def check(self, *kept: int, targets=None) -> None:
        """In float32, and on matrix units for bfloat16 where there are any."""
        self._check(kept, targets, bf16=False)
        if has_bf16_units():
            self._check(kept, targets, bf16=True)

    def _check(self, kept, targets, *, bf16: bool) -> None:
        dims = {value: self.values[value].shape[-1] for value in self.outer}
        links = [
            link._replace(weight=pack(blocks, bf16=bf16))
            for link, blocks in zip(self.links, self.blocks, strict=True)
        ]
        chain = AffineChain(links, kept, dims, self.batch, bf16=bf16)
        outer = [self.values[value].float() for value in self.outer]
        for _ in range(2):
            found = chain(outer, targets or [None] * len(kept))
            for value, rows in zip(kept, found, strict=True):
                torch.testing.assert_close(rows.double(), self.values[value], rtol=0, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 11),
    times=st.integers(1, 33),
    dims=st.lists(st.integers(1, 70), min_size=2, max_size=3),
    steps=st.lists(st.integers(0, 3), min_size=2, max_size=3),
    seed=st.integers(0, 99),
)
def test_terms_of_any_size_and_spacing(batch, times, dims, steps, seed):
    chain = Chain(seed, batch)
    source = chain.value(3 * times + 2, sum(dims))
    offsets = [sum(dims[:n]) for n in range(len(dims))]
    terms = [
        (source, start, step, offset, dim)
        for start, (step, offset, dim) in enumerate(zip(steps, offsets, dims, strict=False))
    ]
    chain.check(chain.affine(dims[0], times, terms, relu=True, norm=True))


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_a_factored_layer_whose_bypass_is_overwritten(batch):
    chain = Chain(0, batch)
    features = chain.value(40, 257)
    wide = chain.affine(300, 40, [(features, 0, 1, 0, 257)], relu=True)
    narrow = chain.affine(33, 39, [(wide, 0, 1, 0, 300), (wide, 1, 1, 0, 300)])
    terms = [(narrow, 0, 1, 0, 33), (narrow, 1, 1, 0, 33)]
    again = chain.affine(300, 38, terms, relu=True, bypass=[(wide, 1, 1, 0, 300)])
    every_third = chain.affine(33, 12, [(again, 0, 3, 0, 300), (again, 2, 3, 0, 300)])
    last = chain.affine(61, 12, [(every_third, 0, 1, 0, 33)], bypass=[(features, 1, 3, 0, 61)])
    chain.check(last)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("times", [2, 20])
def test_a_bias_for_each_sequence(batch, times):
    chain = Chain(1, batch)
    features, ivector = chain.value(3 * times, 40), chain.value(1, 100)
    bias = chain.affine(50, 1, [(ivector, 0, 0, 0, 100)])
    even = chain.affine(50, times, [(features, 1, 1, 0, 40)], relu=True, own_bias=bias)
    third = chain.affine(50, times, [(features, 0, 3, 0, 40)], own_bias=bias)
    chain.check(even, third)


def test_a_value_that_others_read_is_not_overwritten():
    chain = Chain(2, 2)
    x = chain.value(9, 20)
    first = chain.affine(20, 9, [(x, 0, 1, 0, 20)])
    second = chain.affine(20, 9, [(x, 0, 1, 0, 20)], bypass=[(first, 0, 1, 0, 20)])
    third = chain.affine(20, 9, [(second, 0, 1, 0, 20)], bypass=[(first, 0, 1, 0, 20)])
    chain.check(chain.affine(7, 9, [(third, 0, 1, 0, 20), (first, 0, 1, 0, 20)]))


def test_results_are_written_where_they_are_wanted():
    chain = Chain(3, 1)
    x = chain.value(30, 48)
    made = chain.affine(96, 30, [(x, 0, 1, 0, 48)])
    target = torch.empty(30, 1, 96)
    chain.check(made, targets=[target])
    torch.testing.assert_close(target.double(), chain.values[made], rtol=0, atol=1e-4)


def test_two_threads_give_the_same_as_one():
    chain = Chain(4, 1)
    x = chain.value(150, 512)
    hidden = chain.affine(640, 150, [(x, 0, 1, 0, 512)], relu=True)
    made = chain.affine(100, 149, [(hidden, 0, 1, 0, 640), (hidden, 1, 1, 0, 640)])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        chain.check(made)
    finally:
        torch.set_num_threads(threads)


def test_weights_are_packed_beside_others_in_any_mode(monkeypatch):
    monkeypatch.setattr("nnet.kernels.affine.packed._SHELVES", packed_affine._Shelves())
    block = torch.randn(3, 2)
    with torch.inference_mode():
        first = pack([block])
    torch.testing.assert_close(pack([block]), first)
