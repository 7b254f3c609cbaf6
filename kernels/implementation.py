"""Which implementation of a kernel runs: plain torch or Triton."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from nnet.errors import NnetError

Implementation = Literal["reference", "triton"]
"""`reference` is plain torch, on any device. `triton` runs our kernels: compiled on a CUDA device;
in Triton's interpreter, slowly, in a process that has none."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""What our kernels compute with; sums are always made in float32."""

compile_only = False
"""Set by `tools.ahead_of_time` before kernels are declared: there is no device, and yet they
are not interpreted."""


@cache
def triton_is_installed() -> bool:
    """Whether `triton` can be asked for at all."""
    return importlib.util.find_spec("triton") is not None


def uses_triton(implementation: Implementation, *tensors: Tensor | None) -> bool:
    """Whether our kernels are to run on these tensors.

    Raises:
        NnetError: they are asked for and cannot.
    """
    if implementation == "reference":
        return False
    if implementation != "triton":
        raise NnetError(f"implementation is '{implementation}', expected 'reference' or 'triton'")
    if not triton_is_installed():
        raise NnetError("implementation 'triton' needs the package triton, which is not installed")
    for tensor in tensors:
        if tensor is not None:
            _check(tensor)
    return True


def _check(tensor: Tensor) -> None:
    if tensor.dtype not in DTYPES:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        found = str(tensor.dtype).removeprefix("torch.")
        raise NnetError(
            f"implementation 'triton' computes with {names}, found {found}; "
            "use implementation 'reference'"
        )
    if tensor.device.type == "cpu" and torch.cuda.is_available():
        raise NnetError(
            "implementation 'triton' found a tensor on the CPU, but this process has a CUDA "
            "device and compiles kernels for it; move the tensors there or use 'reference'"
        )
