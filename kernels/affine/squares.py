"""Sums of squares, which natural gradient is scaled by."""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.implementation import Implementation
from nnet.kernels.native import Address, Int, NativeFunction, is_native, loaded

_powers = NativeFunction("powers", Address, Int, Int, Int, Address)


def powers(x: Tensor, implementation: Implementation = "reference") -> Tensor:
    """The sums of squares of `x[0]`, `x[1]`, ..., float64; x may be strided.

    As `native` in C++ (squares.cpp), in float32; as `reference` by torch's operations.
    """
    x = x.contiguous()
    if implementation != "native" or not is_native(x) or loaded() is None:
        return x.double().square().flatten(1).sum(1)
    result = x.new_empty(len(x), dtype=torch.float64)
    _powers(x, *x.flatten(1).shape, torch.get_num_threads(), result)
    return result
