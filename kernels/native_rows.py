"""Functions in C++ over rows (time, batch, dim) of a loop: what cells and limits on a CPU share.

Such a function takes a structure, the first row of a step and the row after its last. The
structures have the fields of those in the .cpp files, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import Structure, byref, c_int64, c_void_p
from functools import partial
from typing import Any

from torch import Tensor

from nnet.kernels.native import is_native, native_library


class Rows(Structure):
    """Where rows begin, and how far apart they lie."""

    _fields_ = (("data", c_void_p), ("time", c_int64), ("batch", c_int64))

    @classmethod
    def of(cls, x: Tensor | None) -> Rows:
        """The rows of (time, batch, dim); no data if there is no tensor."""
        return cls() if x is None else cls(x.data_ptr(), x.stride(0), x.stride(1))


def runs_natively(name: str, *tensors: Tensor) -> bool:
    """Whether tensors are float32 on a CPU, columns adjacent, and `NAME.cpp` can be compiled."""
    return all(map(is_native, tensors)) and native_library(name) is not None


def over_rows(
    library: str, name: str, structure: Structure, *tensors: Tensor | None
) -> Callable[[int, int], None]:
    """A function of the first row and the row after the last.

    Args:
        tensors: what the structure points to; they live as long as the function.
    """
    structure.tensors = tensors
    loaded = native_library(library)
    assert loaded is not None
    function: Any = getattr(loaded, name)
    function.argtypes = (c_void_p, c_int64, c_int64)
    function.restype = None
    return partial(function, byref(structure))


def address(x: Tensor | None) -> int | None:
    """Where a tensor's elements begin; null for none."""
    return None if x is None else x.data_ptr()


def step_ranges(rows: Tensor, parts: Sequence[Tensor]) -> list[tuple[int, int]]:
    """From views of rows of each step to the first row and the row after the last."""
    start, stride = rows.storage_offset(), rows.stride(0)
    firsts = [(part.storage_offset() - start) // stride for part in parts]
    return [(first, first + len(part)) for first, part in zip(firsts, parts, strict=True)]
