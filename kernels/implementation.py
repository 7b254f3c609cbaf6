"""The implementations of a kernel by name: plain torch, our C++, Triton."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from nnet.errors import NnetError
from nnet.kernels.native import constant_while_tracing, loaded

Implementation = Literal["reference", "native", "triton"]
"""`reference` is plain torch and nothing else, on any device. `native` is our C++ on a CPU, in
float32; what it is not made for (small products, where matrix units are not worth it) is torch's.
`triton` runs our kernels: compiled on a CUDA device; in Triton's interpreter, slowly, in a process
that has none."""

IMPLEMENTATIONS: tuple[Implementation, ...] = ("reference", "native", "triton")

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""What our kernels compute with; sums are always made in float32."""

compile_only = False
"""Set by `tools.ahead_of_time` before kernels are declared: there is no device, and yet they
are not interpreted."""


def triton_file(name: str) -> Any:
    """The module `nnet.kernels.NAME` with kernels in Triton's language.

    It is imported when it is first used, here and nowhere else: triton need not be installed, and
    to import it, and to declare kernels, takes longer than most commands.
    """
    return importlib.import_module(f"nnet.kernels.{name}")


@cache
def triton_is_installed() -> bool:
    """Whether `triton` can be asked for at all."""
    return importlib.util.find_spec("triton") is not None


@constant_while_tracing
def native_is_available() -> bool:
    """Whether our C++ is at hand."""
    return loaded() is not None


def uses_native(implementation: Implementation, *tensors: Tensor | None) -> bool:
    """Whether our C++ is to run on these tensors.

    Raises:
        NnetError: it is asked for and cannot.
    """
    if implementation != "native":
        return False
    for tensor in tensors:
        if tensor is not None and (tensor.dtype != torch.float32 or tensor.device.type != "cpu"):
            given = f"{str(tensor.dtype).removeprefix('torch.')} on {tensor.device.type}"
            raise NnetError(
                f"implementation 'native' computes with float32 on a CPU, found {given}; "
                "use implementation 'reference'"
            )
    if not native_is_available():
        raise NnetError(
            "implementation 'native' needs our C++, which is not at hand here; "
            "use implementation 'reference'"
        )
    return True


def uses_triton(implementation: Implementation, *tensors: Tensor | None) -> bool:
    """Whether our kernels are to run on these tensors.

    Raises:
        NnetError: they are asked for and cannot.
    """
    if implementation in ("reference", "native"):
        return False
    if implementation != "triton":
        expected = ", ".join(f"'{name}'" for name in IMPLEMENTATIONS)
        raise NnetError(f"implementation is '{implementation}', expected one of {expected}")
    if not triton_is_installed():
        raise NnetError("implementation 'triton' needs the package triton, which is not installed")
    for tensor in tensors:
        if tensor is not None:
            _check(tensor)
    return True


def _check(tensor: Tensor) -> None:
    if tensor.dtype not in DTYPES:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        given = str(tensor.dtype).removeprefix("torch.")
        raise NnetError(
            f"implementation 'triton' computes with {names}, found {given}; "
            "use implementation 'reference'"
        )
    if tensor.device.type == "cpu" and torch.cuda.is_available():
        raise NnetError(
            "implementation 'triton' found a tensor on the CPU, but this process has a CUDA "
            "device and compiles kernels for it; move the tensors there or use 'reference'"
        )
