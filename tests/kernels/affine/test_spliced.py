"""The spliced affine is an affine transform of rows put side by side, on odd sizes."""

import pytest
import torch

from nnet.kernels.affine.blocked import BlockedAffine
from nnet.kernels.affine.spliced import spliced_affine
from nnet.kernels.affine.terms import Epilogue, Term

TIMES, BATCH, DIM, OUT = 23, 3, 7, 5


def terms():
    index = torch.tensor([0, 1, 3, 4, 7, 11, 20])
    return [
        Term(0, 2, 3, 7, None, 0, DIM),
        Term(0, 0, 1, 7, None, 2, 4, -0.5),
        Term(0, 0, 0, 7, index, 0, DIM, 2.0),
        Term(1, 4, 0, 7, None, 1, 3),
    ]


def setup(batch=BATCH, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    sources = [
        torch.randn(t, batch, d, dtype=dtype, generator=generator)
        for t, d in ((TIMES, DIM), (9, 4), (6, OUT))
    ]
    columns = sum(term.dim for term in terms())
    weight = torch.randn(OUT, columns, dtype=dtype, generator=generator)
    bias = torch.randn(OUT, dtype=dtype, generator=generator)
    return sources, weight, bias


def plainly(sources, weight, bias):
    """Rows put side by side, one at a time."""
    rows = []
    for t in range(7):
        parts = []
        for term in terms():
            if term.positions is not None:
                position = int(term.positions[t])
            else:
                position = term.start + t * term.step
            row = sources[term.source][position, :, term.offset : term.offset + term.dim]
            parts.append(term.scale * row)
        rows.append(torch.cat(parts, dim=-1) @ weight.t())
    result = torch.stack(rows)
    return result if bias is None else result + bias


@pytest.mark.parametrize("batch", [1, BATCH])
@pytest.mark.parametrize("with_bias", [True, False])
def test_forward(batch, with_bias):
    sources, weight, bias = setup(batch)
    bias = bias if with_bias else None
    result = spliced_affine(sources, terms(), weight, bias)
    torch.testing.assert_close(result, plainly(sources, weight, bias))


@pytest.mark.parametrize("batch", [1, BATCH])
def test_gradients(batch):
    sources, weight, bias = setup(batch)
    inputs = [x.requires_grad_() for x in (weight, bias, *sources)]

    def function(weight, bias, *sources):
        return spliced_affine(sources, terms(), weight, bias)

    assert torch.autograd.gradcheck(function, inputs)


def test_gradients_of_some_inputs_only():
    sources, weight, bias = setup()
    sources[0].requires_grad_()
    spliced_affine(sources, terms(), weight, bias).sum().backward()
    other = sources[0].detach().clone().requires_grad_()
    plainly([other, *sources[1:]], weight, bias).sum().backward()
    torch.testing.assert_close(sources[0].grad, other.grad)


def epilogue(dtype):
    scales, offsets = torch.linspace(0.5, 2, OUT, dtype=dtype), torch.ones(OUT, dtype=dtype)
    bypass = (Term(0, 1, 2, 7, None, 2, OUT, 0.66), Term(2, 3, 0, 7, None, 0, OUT, -2.0))
    return Epilogue("relu", scales, offsets, bypass)


def expected_epilogue(sources, result):
    scales = torch.linspace(0.5, 2, OUT, dtype=result.dtype)
    return result.relu() * scales + 1 + 0.66 * sources[0][1:14:2, :, 2:] - 2 * sources[2][3]


@pytest.mark.parametrize("differentiable", [True, False])
def test_epilogue(differentiable):
    sources, weight, bias = setup()
    weight.requires_grad_(differentiable)
    result = spliced_affine(sources, terms(), weight, bias, epilogue(torch.float64))
    expected = expected_epilogue(sources, plainly(sources, weight, bias))
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("rows", [1, 5, 0])
@pytest.mark.parametrize("batch", [1, BATCH])
@pytest.mark.parametrize("used", [(0,), (0, 1), (0, 2), (0, 1, 2, 3), (3,)], ids=str)
def test_blocks_of_rows_give_the_same(batch, used, rows):
    sources, weight, bias = setup(batch)
    chosen = [terms()[i]._replace(scale=1.0) for i in used]
    dims = [term.dim for term in chosen]
    weight = weight[:, : sum(dims)]
    blocks = list(weight.t().split(dims))
    for some_bias in (bias, None):
        expected = spliced_affine(sources, chosen, weight, some_bias, epilogue(torch.float64))
        with torch.no_grad():
            affine = BlockedAffine(
                chosen, blocks, some_bias, epilogue(torch.float64), block_rows=rows
            )
            result = affine(sources)
        torch.testing.assert_close(result, expected)


def test_the_result_may_take_the_place_of_a_bypass():
    sources, weight, bias = setup()
    term = terms()[0]
    bypass = Epilogue("relu", bypass=(Term(2, 0, 1, 6, None, 0, OUT, 0.5),))
    term = term._replace(length=6)
    blocks = [weight[:, :DIM].t().contiguous()]
    with torch.no_grad():
        expected = spliced_affine(sources, [term], weight[:, :DIM], bias, bypass)
        result = BlockedAffine([term], blocks, bias, bypass, consume_bypass=True, block_rows=2)(
            sources
        )
    torch.testing.assert_close(result, expected)
    assert result.data_ptr() == sources[2].data_ptr()
