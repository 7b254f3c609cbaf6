"""Where tensors live."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from nnet.errors import NnetError
from nnet.plan.machine import MACHINES, Machine, cuda_machine


def select_device(name: str) -> torch.device:
    """The device called `cpu`, `cuda` or `cuda:N`.

    Raises:
        NnetError: there is no such device, or torch cannot use it here.
    """
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise NnetError(f"--device is '{name}', expected cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise NnetError(
            f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices here; "
            "use --device cpu"
        )
    return torch.device(name)


@cache
def machine_here() -> Machine:
    """The description of the device that kernels are compiled for: a CUDA one if there is one."""
    if not torch.cuda.is_available():
        return MACHINES["cpu"]
    return cuda_machine(*torch.cuda.get_device_capability())


def autocast_dtype(kind: str) -> torch.dtype | None:
    """What matrix products are computed with on a kind of device, if not with what is given."""
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""What Linux calls a processor's units for bfloat16, on x86 and ARM."""


def has_bf16() -> bool:
    """Whether there is hardware for bfloat16 here."""
    return torch.cuda.is_available() or bool(BF16_FLAGS & _cpu_flags())


def check_bf16() -> None:
    """Raises NnetError if there is no hardware for bfloat16 here."""
    if not has_bf16():
        raise NnetError(
            "bf16 needs a CPU with units for bfloat16 (AVX-512 BF16, AMX or ARM's BF16) or a CUDA "
            "device, and here is neither; leave out --bf16"
        )


@cache
def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not on Linux
        return set()
    flags = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return set(next(flags, "").split())
