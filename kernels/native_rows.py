"""Functions in C++ over rows (time, batch, dim) of a loop: what cells and limits on a CPU share.

Such a function takes a structure, the first row of a step and the row after its last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import byref, c_int64, c_void_p
from functools import cache, partial

from torch import Tensor

from nnet.kernels.native import Int, NativeFunction, Struct, Table, is_native, native_library


class RowAddresses(Struct):
    """Where rows begin, and how far apart they lie."""

    _fields_ = (("data", c_void_p), ("time", c_int64), ("batch", c_int64))

    @classmethod
    def of(cls, x: Tensor | None) -> RowAddresses:
        """The rows of (time, batch, dim); no data if there is no tensor."""
        return cls() if x is None else cls(x, x.stride(0), x.stride(1))


def runs_natively(name: str, *tensors: Tensor) -> bool:
    """Whether tensors are float32 on a CPU, columns adjacent, and there is code of `NAME.cpp`."""
    return all(map(is_native, tensors)) and native_library(name) is not None


def over_rows(name: str, structure: Struct) -> Callable[[int, int], None]:
    """A function of the first row and the row after the last.

    What the structure points to lives as long as the function.
    """
    return partial(_function(name, type(structure)).current(), byref(structure))


@cache
def _function(name: str, structure: type[Struct]) -> NativeFunction:
    return NativeFunction(name, Table, Int, Int, tables=(structure,))


def step_ranges(rows: Tensor, parts: Sequence[Tensor]) -> list[tuple[int, int]]:
    """For each step the first row and the row after the last, from views of its rows."""
    start, stride = rows.storage_offset(), rows.stride(0)
    firsts = [(part.storage_offset() - start) // stride for part in parts]
    return [(first, first + len(part)) for first, part in zip(firsts, parts, strict=True)]
