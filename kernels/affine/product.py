"""Matrix products in float32 on a CPU, by its matrix units for bfloat16 where it has them.

A float32 number is the sum of three bfloat16 numbers: x = x1 + x2 + x3, each what the rounding of
the ones before left. A product then is

    x y = x1 y1 + (x1 y2 + x2 y1) + (x1 y3 + x2 y2 + x3 y1) + ...

and what is left out is 2^-26 of it at most, less than float32's own rounding. Six products of
x86's matrix units (AMX) take less than half the time of one in float32: product.cpp.
(Henry, Tang & Heinecke: Leveraging the bfloat16 artificial intelligence datatype for
higher-precision computations, 2019.) Elsewhere, and for small matrices, it is torch's product.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_double, c_int64, c_void_p

import torch
from torch import Tensor

from nnet.kernels.affine.sizes import suit_units
from nnet.kernels.affine.squares import powers
from nnet.kernels.implementation import Implementation
from nnet.kernels.native import (
    Int,
    NativeFunction,
    Struct,
    has_matrix_units,
    is_native,
    is_traceable,
    native_operator,
)

GROUP = 128
"""Rows of which sums are made by one thread, whatever the number of threads."""


class _Product(Struct):
    _fields_ = (
        *((name, c_int64) for name in ("rows", "columns", "depth")),
        ("a", c_void_p),
        *((name, c_int64) for name in ("a_row", "a_depth")),
        ("b", c_void_p),
        *((name, c_int64) for name in ("b_depth", "b_column")),
        ("out", c_void_p),
        *((name, c_int64) for name in ("stride", "accumulate")),
        ("scale", c_double),
        ("bias", c_void_p),
        ("rectify", c_int64),
        *((name, c_void_p) for name in ("sums", "beside")),
        ("batch", c_int64),
        ("beside_scale", c_double),
        ("squares", c_void_p),
    )


_multiply_matrices = NativeFunction("multiply_matrices", _Product, Int)


def multiply(
    a: Tensor,
    b: Tensor,
    out: Tensor,
    *,
    add: bool = False,
    scale: float = 1.0,
    implementation: Implementation = "reference",
) -> None:
    """Writes `scale a b` to `out`, or adds it. Without a derivative.

    Args:
        a, b, out: `(rows, depth)`, `(depth, columns)` and `(rows, columns)`, of one type; `out`
            shares no memory with the others.
        implementation: `native` for the matrix units, where the product is large enough.
    """
    if out.stride(1) != 1 and out.stride(0) == 1:
        a, b, out = b.t(), a.t(), out.t()
    if implementation == "native" and by_units(a, b, out):
        _run(a, b, out, accumulate=add, scale=scale)
    else:
        out.addmm_(a, b, beta=float(add), alpha=scale)


def product(a: Tensor, b: Tensor, implementation: Implementation = "reference") -> Tensor:
    """a b, without a derivative."""
    out = a.new_empty((a.shape[0], b.shape[1]))
    multiply(a, b, out, implementation=implementation)
    return out


def product_with_bias(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None,
    scale: float = 1.0,
    implementation: Implementation = "reference",
) -> Tensor:
    """scale a b + bias, without a derivative. It can be traced.

    Args:
        bias: `(columns,)` or None.
    """
    if implementation == "native":
        given = (a, b if b.stride(1) == 1 else b.t(), *(() if bias is None else (bias,)))
        large = suit_units(len(a), b.shape[1], a.shape[1])
        if large and all(map(is_traceable, given)) and has_matrix_units():
            return _with_bias(a, b, bias, scale)
    start = a.new_zeros(()) if bias is None else bias
    return torch.addmm(start, a, b, alpha=scale, beta=0.0 if bias is None else 1.0)


def _fake_with_bias(a: Tensor, b: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    return a.new_empty((a.shape[0], b.shape[1]))


@native_operator(
    "product_with_bias(Tensor a, Tensor b, Tensor? bias, float scale) -> Tensor", _fake_with_bias
)
def _with_bias(a: Tensor, b: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    out = _fake_with_bias(a, b, bias, scale)
    _run(a, b, out, scale=scale, bias=bias)
    return out


def product_and_squares(
    a: Tensor, b: Tensor, implementation: Implementation = "reference"
) -> tuple[Tensor, Tensor]:
    """a b, and the sums of squares of each row of a, float64 `(rows,)`."""
    out = a.new_empty((a.shape[0], b.shape[1]))
    if implementation == "native" and is_native(a) and by_units(a, b, out):
        squares = a.new_zeros(len(a), dtype=torch.float64)
        _run(a, b, out, squares=squares)
        return out, squares
    multiply(a, b, out, implementation=implementation)
    return out, powers(a, implementation)


def multiply_rectified(
    a: Tensor, b: Tensor, bias: Tensor | None, out: Tensor, sums: Tensor, *, scale: float = 1.0
) -> None:
    """Writes `max(scale a b + bias, 0)` to `out`, where that is a matter of matrix units.

    Args:
        a, b, out: as for `multiply`, and such that `by_units(a, b, out)`.
        bias: `(columns,)` or None.
        sums: float64 `(3, columns)`: to these are added the sums over rows of the result, of its
            square, and of its being above 0.
    """
    parts = sums.new_zeros((-(-len(out) // GROUP), *sums.shape))
    _run(a, b, out, scale=scale, rectify=True, bias=bias, sums=parts)
    sums += parts.sum(0)


def multiply_beside(
    a: Tensor, b: Tensor, out: Tensor, beside: Sequence[Tensor | None], scale: float
) -> None:
    """Writes `a b` to `out`, and adds rows times `scale`, where that is a matter of matrix units.

    Args:
        a, b, out: as for `multiply`, and such that `by_units(a, b, out)`.
        beside: for each of as many parts of the rows, one after the other and equally long, what
            is added to them, contiguous, or None.
    """
    rows = torch.tensor([0 if x is None else x.data_ptr() for x in beside])
    batch = len(out) // len(beside)
    _run(a, b, out, beside=rows, batch=batch, beside_scale=scale)


def by_units(a: Tensor, b: Tensor, out: Tensor) -> bool:
    """Whether these are large enough, and lie so that the units can be used."""
    return (
        suit_units(out.shape[0], out.shape[1], a.shape[1])
        and is_native(out)
        and all(is_native(x) or is_native(x.t()) for x in (a, b))
        and has_matrix_units()
    )


def _run(a: Tensor, b: Tensor, out: Tensor, *, scale: float = 1.0, **more: object) -> None:
    what = _Product(
        rows=out.shape[0],
        columns=out.shape[1],
        depth=a.shape[1],
        a=a,
        a_row=a.stride(0),
        a_depth=a.stride(1),
        b=b,
        b_depth=b.stride(0),
        b_column=b.stride(1),
        out=out,
        stride=out.stride(0),
        scale=scale,
        **more,
    )
    _multiply_matrices(what, torch.get_num_threads())
