"""The spliced affine's kernels give what the reference does."""

import pytest
import torch

from nnet.kernels.affine.spliced import spliced_affine
from nnet.kernels.affine.terms import Epilogue, Term
from tests.kernels.triton_cases import (
    DEVICE,
    TF32_TOLERANCE,
    TOLERANCES,
    assert_close,
    check_against_reference,
    gradients,
    nan_around,
    tf32,
)

LENGTH, OUT = 21, 37


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator).to(DEVICE)


def term(start=0, step=1, offset=0, dim=9, source=0, scale=1.0):
    return Term(source, start, step, LENGTH, None, offset, dim, scale)


INDEX = torch.tensor([0, 0, 3, 4, 7, 11, 20, 20, 20, 19, *range(11)])
CASES = {
    "one term": [term()],
    "whole blocks": [term(dim=64), term(start=3, dim=64)],
    "a run of narrow terms": [term(start=start) for start in (0, 2, 4)],
    "uneven offsets": [term(start=start) for start in (0, 1, 5)],
    "every third row": [term(step=3, start=1), term(step=3), term(step=3, start=4)],
    "steps that do not fit": [term(step=2), term(step=3), term(start=1)],
    "the same row for all": [term(), term(step=0, start=2, source=1, dim=5)],
    "any rows": [term(), Term(1, 0, 0, LENGTH, INDEX, 0, 5)],
    "some columns": [term(offset=2, dim=4), term(offset=1, dim=8, start=1)],
    "scaled": [term(scale=-0.5), term(source=1, dim=5, scale=2.0)],
}


def sources(case, batch, dtype, dim=None):
    dim = max(t.offset + t.dim for t in CASES[case] if t.source == 0) + ("columns" in case)
    times = 65 if "step" in case or "third" in case else 27
    given = [random(times, batch, dim), random(LENGTH, batch, 5)]
    return [nan_around(x.to(dtype)) for x in given[: 1 + CASES[case][-1].source]]


def check(case, batch, dtype, tolerance=None):
    terms = CASES[case]
    given = sources(case, batch, dtype)
    weight = random(OUT, sum(t.dim for t in terms), seed=1).to(dtype)
    bias = random(OUT).to(dtype)

    def function(implementation, weight, bias, *sources):
        return spliced_affine(sources, terms, weight, bias, implementation=implementation)

    of_result = random(LENGTH, batch, OUT, seed=2).to(dtype)
    check_against_reference(function, [weight, bias, *given], of_result, tolerance)


@pytest.mark.parametrize("case", CASES)
def test_forward_and_gradients(case):
    check(case, batch=3, dtype=torch.float32)


@pytest.mark.parametrize("case", ["every third row", "any rows"])
def test_one_sequence(case):
    check(case, batch=1, dtype=torch.float32)


@pytest.mark.parametrize("case", ["whole blocks", "any rows"])
def test_bfloat16(case):
    check(case, batch=3, dtype=torch.bfloat16)


def test_tf32():
    with tf32():
        check("whole blocks", batch=3, dtype=torch.float32, tolerance=TF32_TOLERANCE)


def test_autocast():
    x, weight = random(LENGTH, 2, 9), random(OUT, 9).requires_grad_()
    with torch.autocast(DEVICE, torch.bfloat16):
        result = spliced_affine([x], [term()], weight, None, implementation="triton")
    assert result.dtype == torch.bfloat16
    result.sum().backward()
    assert_close(weight.grad, x.double().sum((0, 1)).expand(OUT, 9), TOLERANCES[torch.bfloat16])


def epilogue(activation, dtype):
    scales = torch.linspace(0.5, 2, OUT).to(DEVICE, dtype)
    bypass = (
        Term(0, 1, 2, LENGTH, None, 2, OUT, 0.66),
        Term(1, 3, 0, LENGTH, None, 0, OUT, -2.0),
        Term(1, 0, 0, LENGTH, INDEX, 0, OUT),
    )
    return Epilogue(activation, scales, 1 - scales, bypass)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ["", "relu", "sigmoid", "tanh"])
def test_epilogue(activation, dtype):
    given = [nan_around(random(45, 2, OUT + 4).to(dtype)), nan_around(random(21, 2, OUT).to(dtype))]
    weight, bias = random(OUT, 9, seed=1).to(dtype), random(OUT).to(dtype)
    found, wide = (
        spliced_affine(
            [x.to(of) for x in given],
            [term(start=4)],
            weight.to(of),
            bias.to(of),
            epilogue(activation, of),
            implementation=implementation,
        )
        for of, implementation in ((dtype, "triton"), (torch.float64, "reference"))
    )
    assert_close(found, wide, TOLERANCES[dtype])


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_gradients_through_an_epilogue(activation):
    given = [random(45, 2, OUT + 4), random(21, 2, OUT)]

    def function(implementation, weight, *sources):
        ending = epilogue(activation, weight.dtype)
        return spliced_affine(
            sources, [term(start=4)], weight, None, ending, implementation=implementation
        )

    of_result = random(LENGTH, 2, OUT, seed=2)
    check_against_reference(function, [random(OUT, 9, seed=1), *given], of_result)


def test_views_of_columns_are_sources():
    wide = random(LENGTH, 2, 20)
    weight = random(OUT, 9)
    found = spliced_affine([wide[:, :, 3:12]], [term()], weight, None, implementation="triton")
    assert_close(found, (wide[:, :, 3:12].double() @ weight.double().t()))


def test_the_observer_sees_rows_and_derivative():
    seen = []
    x, weight = random(LENGTH, 2, 9), random(OUT, 9).requires_grad_()
    result = spliced_affine(
        [x],
        [term()],
        weight,
        None,
        None,
        lambda rows, gradient: seen.append((rows, gradient)),
        implementation="triton",
    )
    result.backward(torch.ones_like(result))
    (((rows, scale),), gradient) = seen[0]
    assert scale == 1.0
    torch.testing.assert_close(rows, x)
    torch.testing.assert_close(gradient, torch.ones_like(result))


def test_no_gradient_that_nobody_wants():
    x, weight = random(LENGTH, 2, 9), random(OUT, 9)
    _, (found,) = gradients(
        lambda x: spliced_affine([x], [term()], weight, None, implementation="triton"),
        [x],
        torch.ones(LENGTH, 2, OUT, device=DEVICE),
    )
    assert_close(found, weight.double().sum(0).expand(x.shape))


def test_operators():
    from nnet.kernels.affine.gpu import forward
    from nnet.kernels.affine.gpu.source import spliced_affine_source
    from nnet.kernels.affine.gpu.terms import flatten
    from nnet.kernels.affine.gpu.weight import spliced_affine_weight

    given = [random(27, 2, 9), random(LENGTH, 2, 5)]
    flat = flatten(CASES["any rows"])
    weight, gradient = random(OUT, 14), random(LENGTH, 2, OUT)
    torch.library.opcheck(
        forward.spliced_affine, (given, *flat, 2, weight, None, "relu", None, None)
    )
    torch.library.opcheck(spliced_affine_weight, (given, *flat, gradient))
    one = flatten(CASES["one term"])
    torch.library.opcheck(spliced_affine_source, (given[:1], *one, [0], weight, gradient))
