"""With what a network is carried out here: what the table of implementations is asked with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor
from torch.nn import Parameter

from nnet.kernels.affine.packed import has_bf16_units
from nnet.kernels.implementation import native_is_available
from nnet.plan.implementations import Abilities, Situation
from nnet.plan.machine import MACHINES, Machine, Precision
from nnet.runtime.device import autocast_dtype, machine_here


@cache
def abilities_here() -> Abilities:
    """What there is on this machine."""
    native = native_is_available()
    return Abilities(native, native and has_bf16_units())


def situation_of(rows: Mapping[str, Tensor], *, fixed: bool) -> Situation:
    """The device, type and compilers with which inputs (time, batch, dim) are computed."""
    tensors = list(rows.values())
    first = tensors[0]
    device, batch = first.device.type, first.shape[1]
    types = {x.dtype for x in tensors}
    dtype = autocast_dtype(device) or (types.pop() if len(types) == 1 else None)
    tracing = torch.compiler.is_compiling() or torch.compiler.is_exporting()
    traced = tracing or any(type(x) not in (Tensor, Parameter) for x in tensors)
    return Situation(
        device=device,
        dtype="mixed" if dtype is None else _NAMES[dtype],
        gradient=torch.is_grad_enabled(),
        batch=1 if traced or (fixed and device == "cpu") else batch,
        precision=_precision(first),
        traced=traced,
        abilities=Abilities(native=False) if traced else abilities_here(),
    )


_NAMES = {getattr(torch, name): name for name in ("float16", "bfloat16", "float32", "float64")}


def machine_of(situation: Situation) -> Machine:
    """The description of the machine that computes."""
    return machine_here() if situation.device == "cuda" else MACHINES["cpu"]


def _precision(rows: Tensor) -> Precision:
    """What matrix products are computed with."""
    kind = rows.device.type
    if rows.dtype != torch.float32 or torch.is_autocast_enabled(kind):
        return "bf16"
    exact = kind != "cuda" or torch.get_float32_matmul_precision() == "highest"
    return "fp32" if exact else "tf32"
