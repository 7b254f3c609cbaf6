"""What the tests of Triton kernels have in common."""

from contextlib import contextmanager

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
"""By dtype: the largest error, relative to the reference's largest element in float64."""


TF32_TOLERANCE = 1e-3


@contextmanager
def tf32():
    """Products of float32 are made of tf32 parts once, where there is a device that has them."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def nan_around(tensor, before=1, after=1):
    """The same values, in memory that is NaN around the rows: reading beyond them shows."""
    rows, *rest = tensor.shape
    whole = tensor.new_full((before + rows + after, *rest), torch.nan)
    whole[before : before + rows] = tensor
    return whole[before : before + rows]


def error(found, expected):
    """The largest difference over the largest expected magnitude; NaN anywhere is an error."""
    expected = expected.double()
    scale = expected.abs().max().clamp_min(1e-30)
    return float(((found.double() - expected).abs().max() / scale).nan_to_num(torch.inf))


def assert_close(found, expected, tolerance=None):
    """Within the tolerance of what was found's dtype; `expected` is made in float64."""
    assert found.shape == expected.shape
    tolerance = TOLERANCES[found.dtype] if tolerance is None else tolerance
    assert error(found, expected) <= tolerance


def gradients(function, inputs, of_result):
    """The result, and the gradients of its product with `of_result` for every input."""
    given = [x.detach().requires_grad_() for x in inputs]
    result = function(*given)
    return result.detach(), torch.autograd.grad(result, given, of_result.to(result.dtype))


def check_against_reference(function, inputs, of_result, tolerance=None, of_dtype=None):
    """`function(implementation, *inputs)` gives with our kernels what the reference gives in
    float64, and the same gradients; the result has the inputs' dtype or `of_dtype`."""
    expected, expected_gradients = gradients(
        lambda *given: function("reference", *given), [x.double() for x in inputs], of_result
    )
    found, found_gradients = gradients(lambda *given: function("triton", *given), inputs, of_result)
    assert found.dtype == (of_dtype or inputs[0].dtype)
    assert_close(found, expected, tolerance)
    for mine, theirs in zip(found_gradients, expected_gradients, strict=True):
        assert_close(mine, theirs, tolerance)
