"""The image convolution's kernels give what the reference does."""

from itertools import product

import pytest
import torch

from nnet.kernels.convolution.geometry import Image, Taps
from nnet.kernels.convolution.reference import image_convolution
from nnet.kernels.windows.windows import Windows
from tests.kernels.triton_cases import (
    DEVICE,
    TF32_TOLERANCE,
    assert_close,
    check_against_reference,
    nan_around,
    tf32,
)

FILTERS = 5
STORED = 9
SQUARE = Taps(tuple(product(range(3), (-1, 0, 1))))
INDEX = torch.tensor([[0, 1, 2], [-1, 2, 4], [8, 0, -1], [5, 6, 7]])
CASES = {
    "3 x 3": (Image(4, 6, 6, 1), SQUARE, Windows(7)),
    "whole blocks": (Image(16, 3, 3, 1), SQUARE, Windows(7)),
    "frames that are not there": (Image(4, 3, 3, 1), SQUARE, Windows(9, first=-1)),
    "no padding": (Image(4, 5, 3, 1), Taps(tuple(product(range(2), (0, 1, 2)))), Windows(8)),
    "every second height": (Image(4, 7, 4, 2), SQUARE, Windows(7)),
    "every third height, pixels that nobody reads": (
        Image(3, 8, 3, 3),
        Taps(tuple(product(range(2), (0, 1)))),
        Windows(8),
    ),
    "every second frame, dilated": (Image(4, 3, 3, 1), SQUARE, Windows(3, 0, 2, 2)),
    "uneven offsets": (Image(4, 6, 6, 1), Taps(((0, -2), (0, 1), (1, 0), (2, 0))), Windows(7)),
    "uneven, whole blocks": (Image(16, 3, 3, 1), Taps(((0, -1), (0, 1), (1, 0))), Windows(8)),
    "any frames": (Image(4, 3, 3, 1), SQUARE, Windows(4, index=INDEX)),
    "any frames, whole blocks": (Image(16, 2, 2, 1), SQUARE, Windows(4, index=INDEX)),
    "one pixel": (Image(4, 3, 3, 1), Taps(((0, 0),)), Windows(9)),
}


def inputs(case, dtype=torch.float32, batch=2):
    image, taps, windows = CASES[case]
    generator = torch.Generator().manual_seed(1)

    def random(*shape):
        return torch.randn(*shape, generator=generator).to(DEVICE, dtype)

    x = random(STORED, batch, image.channels * image.height_in)
    filters = random(FILTERS, image.channels * len(taps.offsets))
    of_result = random(windows.count, batch, FILTERS * image.height_out)
    return [nan_around(x), filters, random(FILTERS)], of_result


def plainly(x, filters, bias, image, taps, windows):
    """Pixel by pixel."""
    pixels = x.unflatten(-1, (image.height_in, image.channels))
    blocks = filters.unflatten(1, (-1, image.channels))
    shape = (windows.count, x.shape[1], image.height_out, len(filters))
    result = bias.expand(shape).clone()
    for t, h, (tap, (number, height)) in product(
        range(windows.count), range(image.height_out), enumerate(taps.offsets)
    ):
        row = windows.first + t * windows.step + number * windows.shift
        row = row if windows.index is None else int(windows.index[t, number])
        at = h * image.height_step + height
        if 0 <= row < len(x) and 0 <= at < image.height_in:
            result[t, :, h] += pixels[row, :, at] @ blocks[:, tap].t()
    return result.flatten(-2)


@pytest.mark.parametrize("case", CASES)
def test_the_reference_is_the_formula(case):
    given, _ = inputs(case, torch.float64)
    torch.testing.assert_close(
        image_convolution(*given, *CASES[case]), plainly(*given, *CASES[case])
    )


def check(case, dtype, batch, tolerance=None):
    given, of_result = inputs(case, dtype, batch)
    check_against_reference(
        lambda implementation, *given: image_convolution(
            *given, *CASES[case], implementation=implementation
        ),
        given,
        of_result,
        tolerance,
    )


@pytest.mark.parametrize("case", CASES)
def test_forward_and_gradients(case):
    check(case, torch.float32, batch=2)


@pytest.mark.parametrize("case", ["whole blocks", "uneven offsets"])
def test_bfloat16(case):
    check(case, torch.bfloat16, batch=1)


def test_tf32():
    with tf32():
        check("whole blocks", torch.float32, batch=2, tolerance=TF32_TOLERANCE)


def test_autocast():
    (x, filters, bias), of_result = inputs("3 x 3")
    filters.requires_grad_()
    with torch.autocast(DEVICE, torch.bfloat16):
        result = image_convolution(x, filters, bias, *CASES["3 x 3"], implementation="triton")
    assert result.dtype == torch.bfloat16
    result.backward(of_result.to(torch.bfloat16))
    assert filters.grad.dtype == torch.float32


@pytest.mark.parametrize("activation", ["", "relu", "sigmoid"])
@pytest.mark.parametrize("differentiable", [False, True])
def test_what_follows(activation, differentiable):
    (x, *others), _ = inputs("every second height")
    image, *geometry = CASES["every second height"]
    scales = torch.linspace(0.5, 2, FILTERS * image.height_out).to(DEVICE)

    def function(implementation, x):
        dtype = x.dtype
        return image_convolution(
            x,
            *(other.to(dtype) for other in others),
            image,
            *geometry,
            activation=activation,
            scales=scales.to(dtype),
            offsets=1 - scales.to(dtype),
            implementation=implementation,
        )

    if differentiable:
        of_result = torch.ones_like(function("reference", x))
        check_against_reference(function, [x], of_result)
    else:
        with torch.no_grad():
            assert_close(function("triton", x), function("reference", x.double()))


def test_operators():
    from nnet.kernels.convolution.gpu import forward
    from nnet.kernels.convolution.gpu import gradients as backward

    (x, filters, bias), of_result = inputs("any frames")
    geometry = forward.flatten(*CASES["any frames"])
    torch.library.opcheck(
        forward.image_convolution, (x, filters, bias, "relu", None, None, *geometry)
    )
    torch.library.opcheck(
        backward.image_convolution_source, (of_result, filters, STORED, *geometry)
    )
    torch.library.opcheck(backward.image_convolution_filters, (x, of_result, *geometry))
