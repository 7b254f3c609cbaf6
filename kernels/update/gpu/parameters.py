"""Kernels of `nnet.kernels.update.parameters`: all tensors in one launch.

A program takes a chunk of one tensor. Tables on the device say which, and where tensors are; those
of shapes are made once, those of addresses are sent along in each step without waiting.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nnet.kernels.gpu import Configuration, Specimen, kernel, operator, tl, triton
from nnet.kernels.recording import table

CHUNK = 8192
"""Elements of a program: few enough that small tensors keep all processors busy."""

_TABLES = {
    "addresses": torch.int64,
    "owners": torch.int32,
    "starts": torch.int64,
    "sizes": torch.int64,
    "tensors": 90,
    "CHUNK": CHUNK,
}
_CONFIGURATIONS = [Configuration({"BLOCK": 2048}, warps=8)]
_INTERPRETED = {"BLOCK": CHUNK}


@kernel(
    configurations=_CONFIGURATIONS,
    interpreted=_INTERPRETED,
    specimens=[
        Specimen(
            "fp32",
            {
                **_TABLES,
                "scales": torch.float32,
                "penalties": torch.float32,
                "partial": torch.float32,
            },
        )
    ],
)
def _make(
    addresses,
    owners,
    starts,
    sizes,
    scales,
    penalties,
    partial,
    tensors,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """`addresses` (3, tensors) are those of parameters, gradients, and buffers or 0."""
    program = tl.program_id(0)
    tensor = tl.load(owners + program)
    first = tl.load(starts + program)
    size = tl.load(sizes + tensor)
    pointer = tl.pointer_type(tl.float32)
    parameter = tl.load(addresses + tensor).to(pointer)
    gradient = tl.load(addresses + tensors + tensor).to(pointer)
    buffer = tl.load(addresses + 2 * tensors + tensor)
    scale = tl.load(scales + tensor)
    penalty = tl.load(penalties + tensor)
    squares = tl.zeros([BLOCK], tl.float32)
    for offset in range(0, CHUNK, BLOCK):
        place = first + offset + tl.arange(0, BLOCK)
        mask = place < size
        change = tl.load(gradient + place, mask=mask, other=0.0) * scale
        if penalty != 0:
            change -= penalty * tl.load(parameter + place, mask=mask, other=0.0)
        if buffer == 0:
            tl.store(gradient + place, change, mask=mask)
        else:
            change += tl.load(buffer.to(pointer) + place, mask=mask, other=0.0)
            tl.store(buffer.to(pointer) + place, change, mask=mask)
        squares += change * change
    tl.store(partial + program, tl.sum(squares, axis=0))


@kernel(
    configurations=[Configuration({}, warps=4)],
    interpreted={},
    specimens=[
        Specimen(
            "fp32",
            {
                "partial": torch.float32,
                "firsts": torch.int32,
                "squares": torch.float64,
                "BLOCK": 128,
            },
        )
    ],
)
def _sum_up(partial, firsts, squares, BLOCK: tl.constexpr):
    """The sums of the chunks of each tensor, always in the same order."""
    tensor = tl.program_id(0)
    first, end = tl.load(firsts + tensor), tl.load(firsts + tensor + 1)
    total = tl.zeros([BLOCK], tl.float64)
    for start in range(first, end, BLOCK):
        place = start + tl.arange(0, BLOCK)
        total += tl.load(partial + place, mask=place < end, other=0.0).to(tl.float64)
    tl.store(squares + tensor, tl.sum(total, axis=0))


@kernel(
    configurations=_CONFIGURATIONS,
    interpreted=_INTERPRETED,
    specimens=[Specimen("fp32", {**_TABLES, "multipliers": torch.float32})],
)
def _add(
    addresses,
    owners,
    starts,
    sizes,
    multipliers,
    tensors,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """`addresses` (2, tensors) are those of parameters and changes."""
    program = tl.program_id(0)
    tensor = tl.load(owners + program)
    multiplier = tl.load(multipliers + tensor)
    if multiplier != 0:
        first = tl.load(starts + program)
        size = tl.load(sizes + tensor)
        pointer = tl.pointer_type(tl.float32)
        parameter = tl.load(addresses + tensor).to(pointer)
        change = tl.load(addresses + tensors + tensor).to(pointer)
        for offset in range(0, CHUNK, BLOCK):
            place = first + offset + tl.arange(0, BLOCK)
            mask = place < size
            changed = tl.load(parameter + place, mask=mask)
            changed += multiplier * tl.load(change + place, mask=mask)
            tl.store(parameter + place, changed, mask=mask)


class Chunks(NamedTuple):
    """How tensors are cut: for each chunk its tensor and first element; for each tensor its
    number of elements, and its first chunk (and at the end their number)."""

    owners: Tensor
    starts: Tensor
    sizes: Tensor
    firsts: Tensor
    total: int


@functools.lru_cache(maxsize=32)
def _chunks(sizes: tuple[int, ...], device: torch.device) -> Chunks:
    each = torch.tensor([triton.cdiv(size, CHUNK) for size in sizes])
    firsts = torch.cat((torch.zeros(1, dtype=torch.int64), each.cumsum(0)))
    owners = torch.repeat_interleave(torch.arange(len(sizes)), each)
    starts = (torch.arange(len(owners)) - firsts[owners]) * CHUNK
    return Chunks(
        owners.to(device, torch.int32),
        starts.to(device),
        torch.tensor(sizes).to(device),
        firsts.to(device, torch.int32),
        len(owners),
    )


def _addresses(rows: Sequence[Sequence[Tensor]], device: torch.device) -> Tensor:
    """Addresses of tensors, 0 for empty ones: int64 (rows, tensors)."""
    addresses = [[tensor.data_ptr() if tensor.numel() else 0 for tensor in row] for row in rows]
    return table(torch.tensor(addresses, dtype=torch.int64), device)


def _check(tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        if not (tensor.is_contiguous() and tensor.dtype == torch.float32):
            raise ValueError("parameters and their changes must be contiguous and float32")


def _fake_make(
    parameters: list[Tensor],
    gradients: list[Tensor],
    buffers: list[Tensor],
    scales: Tensor,
    penalties: Tensor,
) -> Tensor:
    return scales.new_empty(len(parameters), dtype=torch.float64)


@operator(
    "make_changes(Tensor[] parameters, Tensor(a!)[] gradients, Tensor(b!)[] buffers, "
    "Tensor scales, Tensor penalties) -> Tensor",
    _fake_make,
)
def make(
    parameters: list[Tensor],
    gradients: list[Tensor],
    buffers: list[Tensor],
    scales: Tensor,
    penalties: Tensor,
) -> Tensor:
    """Puts the change of each parameter, scale gradient - penalty parameter, in the place of its
    gradient, or adds it to its buffer, in one launch: `nnet.kernels.update.parameters.make_changes`
    on a GPU.

    Args:
        buffers: as there, but an empty one stands for none.
        scales, penalties: float32 (tensors,).

    Returns:
        The sum of squares of each change, float64 (tensors,).
    """
    _check([*parameters, *gradients, *buffers])
    device = scales.device
    chunks = _chunks(tuple(p.numel() for p in parameters), device)
    partial = scales.new_empty(chunks.total)
    squares = _fake_make(parameters, gradients, buffers, scales, penalties)
    _make(
        lambda _: (chunks.total,),
        addresses=_addresses((parameters, gradients, buffers), device),
        owners=chunks.owners,
        starts=chunks.starts,
        sizes=chunks.sizes,
        scales=scales,
        penalties=penalties,
        partial=partial,
        tensors=len(parameters),
        CHUNK=CHUNK,
    )
    _sum_up(
        lambda _: (len(parameters),),
        partial=partial,
        firsts=chunks.firsts,
        squares=squares,
        BLOCK=128,
    )
    return squares


@operator(
    "add_changes(Tensor(a!)[] parameters, Tensor[] changes, Tensor multipliers) -> ()",
    lambda parameters, changes, multipliers: None,
)
def add(parameters: list[Tensor], changes: list[Tensor], multipliers: Tensor) -> None:
    """Adds change i times `multipliers[i]` to parameter i, for all parameters in one launch; where
    a multiplier is 0 nothing is added, whatever the change is."""
    _check([*parameters, *changes])
    chunks = _chunks(tuple(p.numel() for p in parameters), multipliers.device)
    _add(
        lambda _: (chunks.total,),
        addresses=_addresses((parameters, changes), multipliers.device),
        owners=chunks.owners,
        starts=chunks.starts,
        sizes=chunks.sizes,
        multipliers=multipliers,
        tensors=len(parameters),
        CHUNK=CHUNK,
    )
