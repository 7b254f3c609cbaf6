"""The gradient before a rectified linear unit with batch-norm, multiplied by the weights and the
inputs of the affine transform there, on a CPU with matrix units.

What `nnet.kernels.normalization.relu_batch_norm.input_gradient` makes is multiplied from blocks
of rows that stay in the cache, and is not written to memory: derivative_products.cpp. The
products are those of `nnet.kernels.affine.product`.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_int64, c_void_p
from typing import NamedTuple

import torch
from torch import Tensor

from nnet.kernels.native import Int, NativeFunction, Struct, has_matrix_units, is_native

SIDE = 32
"""Rows and columns of the squares in which products are summed up."""

VECTORS = ("mean", "scale", "average", "product", "repair")


class _Derivative(Struct):
    _fields_ = tuple((name, c_void_p) for name in ("gradient", "z", *VECTORS))


class _Products(Struct):
    _fields_ = (
        *((name, c_int64) for name in ("rows", "dim")),
        ("derivative", _Derivative),
        ("matrix", c_void_p),
        *((name, c_int64) for name in ("matrix_row", "width")),
        *((name, c_void_p) for name in ("made", "x")),
        *((name, c_int64) for name in ("x_row", "columns", "rank")),
        *((name, c_void_p) for name in ("products", "sums")),
    )


_derivative_products = NativeFunction("derivative_products", _Products, Int)


def makes_products(*tensors: Tensor) -> bool:
    """Whether this can be done with tensors of the type and place of these."""
    return all(map(is_native, tensors)) and has_matrix_units()


class Products(NamedTuple):
    """What was made of the gradient d `(rows, dim)`.

    Attributes:
        of_rows: d times the matrix, `(rows, width)`.
        of_inputs: x' d, `(columns, dim)`.
        of_made: h' d, `(rank, dim)`, with the last `rank` columns h of what was made.
        sums: float64 `(3, dim)`: see `input_gradient`.
    """

    of_rows: Tensor
    of_inputs: Tensor
    of_made: Tensor
    sums: Tensor


def derivative_products(
    gradient: Tensor,
    z: Tensor,
    vectors: Sequence[Tensor],
    matrix: Tensor,
    x: Tensor,
    rank: int = 0,
) -> Products:
    """The derivative with respect to z times a matrix, the input times that derivative, and its
    sums, in one pass."""
    (rows, dim), threads = z.shape, torch.get_num_threads()
    width, columns = matrix.shape[1], x.shape[1]
    heads = [-(-count // SIDE) for count in (columns, rank)]
    panels = -(-dim // SIDE)
    of_rows = z.new_empty((rows, width))
    squares = z.new_zeros((threads, panels, sum(heads), SIDE, SIDE))
    sums = z.new_zeros((threads, 3, dim), dtype=torch.float64)
    whole = _Products(
        *(rows, dim, _Derivative(gradient, z, *vectors)),
        *(matrix, matrix.stride(0), width, of_rows, x, x.stride(0), columns, rank),
        *(squares if squares.numel() else None, sums),
    )
    _derivative_products(whole, threads)
    joined = squares.sum(0).permute(1, 2, 0, 3).reshape(sum(heads) * SIDE, panels * SIDE)
    first = heads[0] * SIDE
    of_inputs, of_made = joined[:columns, :dim], joined[first : first + rank, :dim]
    return Products(of_rows, of_inputs, of_made, sums.sum(0))
