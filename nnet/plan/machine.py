"""What the cost model knows of a machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from nnet.errors import NnetError, nearest

Precision = Literal["fp32", "tf32", "bf16"]


@dataclass(frozen=True)
class Machine:
    """Speeds that a well-written program reaches.

    Attributes:
        name: `cpu`, or the architecture of a CUDA device.
        flops: matrix products of each precision, in operations a second.
        bandwidth: of the main memory, in bytes a second.
        launch: what an operation costs however small it is, in seconds.
        library_share, kernel_share: of `flops` that a tuned library's matrix product reaches, and
            one of our kernels, which does more in one pass.
    """

    name: str
    flops: Mapping[Precision, float]
    bandwidth: float
    launch: float
    library_share: float = 0.9
    kernel_share: float = 0.75

    @property
    def is_gpu(self) -> bool:
        return self.name != "cpu"


def _speeds(fp32: float, tf32: float, bf16: float) -> Mapping[Precision, float]:
    return MappingProxyType({"fp32": fp32, "tf32": tf32, "bf16": bf16})


MACHINES = {
    machine.name: machine
    for machine in (
        Machine("cpu", _speeds(1.6e11, 1.6e11, 1.0e12), 1.5e10, 5e-6),
        Machine("sm_80", _speeds(1.95e13, 1.56e14, 3.12e14), 1.55e12, 4e-6),
        Machine("sm_90", _speeds(6.7e13, 4.95e14, 9.9e14), 3.35e12, 4e-6),
    )
}
"""One core of a server's processor with AVX-512; A100; H100. GPUs' numbers are the vendor's; a
launch is what a small kernel takes when torch launches it from Python."""


def machine(name: str) -> Machine:
    """The machine of a name.

    Raises:
        NnetError: there is no description of it.
    """
    known = MACHINES.get(name)
    if known is None:
        meant = nearest(name, MACHINES)
        hint = f"; did you mean {meant}?" if meant else ""
        raise NnetError(f"unknown machine '{name}', expected one of {', '.join(MACHINES)}{hint}")
    return known


def cuda_machine(major: int, minor: int) -> Machine:
    """The description that fits a CUDA device's compute capability best: the latest before it."""
    known = [m for m in MACHINES.values() if m.is_gpu]
    older = [m for m in known if int(m.name.removeprefix("sm_")) <= 10 * major + minor]
    return (older or known[:1])[-1]
