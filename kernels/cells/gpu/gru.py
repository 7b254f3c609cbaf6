"""Kernels of `nnet.kernels.cells.gru`: each element is read once and written once."""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.gpu import Configuration, Specimen, kernel, operator, tl, triton

CONFIGURATIONS = (
    Configuration({"BLOCK": 1024}, warps=4),
    Configuration({"BLOCK": 2048}, warps=8),
)
"""Bound by memory: all that matters is enough bytes in flight."""

INTERPRETED = {"BLOCK": 256}


def _specimens(names: tuple[str, ...], **more: bool) -> list[Specimen]:
    return [
        Specimen(
            name, {**dict.fromkeys(names, dtype), "elements": 9600 * 1024, "cells": 1024, **more}
        )
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    ]


@kernel(
    configurations=CONFIGURATIONS,
    interpreted=INTERPRETED,
    specimens=_specimens(("z", "inner", "previous", "feedback", "out"), BY_UNIT=False),
)
def _forward(
    z,
    inner,
    previous,
    feedback,
    out,
    elements,
    cells,
    BY_UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = place < elements
    row, unit = place // cells, place % cells
    before = tl.load(previous + place, mask=mask, other=0.0).to(tl.float32)
    if BY_UNIT:
        fed = tl.load(feedback + unit, mask=mask, other=0.0).to(tl.float32) * before
    else:
        fed = tl.load(feedback + place, mask=mask, other=0.0).to(tl.float32)
    fed += tl.load(inner + place, mask=mask, other=0.0).to(tl.float32)
    h = 2.0 * tl.sigmoid(2.0 * fed) - 1.0
    gate = tl.load(z + place, mask=mask, other=0.0).to(tl.float32)
    to = out + row * (2 * cells) + unit
    tl.store(to, h, mask=mask)
    tl.store(to + cells, h + gate * (before - h), mask=mask)


@kernel(
    configurations=CONFIGURATIONS,
    interpreted=INTERPRETED,
    specimens=_specimens(("z", "previous", "y", "gradient", "target")),
)
def _backward(z, previous, y, gradient, target, elements, cells, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = place < elements
    at = place // cells * (2 * cells) + place % cells
    gate = tl.load(z + place, mask=mask, other=0.0).to(tl.float32)
    before = tl.load(previous + place, mask=mask, other=0.0).to(tl.float32)
    h = tl.load(y + at, mask=mask, other=0.0).to(tl.float32)
    of_h = tl.load(gradient + at, mask=mask, other=0.0).to(tl.float32)
    of_cell = tl.load(gradient + at + cells, mask=mask, other=0.0).to(tl.float32)
    tl.store(target + place, of_cell * (before - h), mask=mask)
    inner = (of_h + of_cell * (1 - gate)) * (1 - h * h)
    tl.store(target + elements + place, inner, mask=mask)
    tl.store(target + 2 * elements + place, of_cell * gate, mask=mask)


def _fake_forward(z: Tensor, inner: Tensor, previous: Tensor, feedback: Tensor) -> Tensor:
    return z.new_empty((z.shape[0], 2 * z.shape[1]))


@operator(
    "gru_cell(Tensor z, Tensor inner, Tensor previous, Tensor feedback) -> Tensor", _fake_forward
)
def forward(z: Tensor, inner: Tensor, previous: Tensor, feedback: Tensor) -> Tensor:
    """`nnet.kernels.cells.gru.gru_cell` of rows (count, C)."""
    out = _fake_forward(z, inner, previous, feedback)
    elements = z.numel()
    if elements:
        _forward(
            lambda meta: (triton.cdiv(elements, meta["BLOCK"]),),
            like=z.dtype,
            z=z.contiguous(),
            inner=inner.contiguous(),
            previous=previous.contiguous(),
            feedback=feedback.contiguous(),
            out=out,
            elements=elements,
            cells=z.shape[1],
            BY_UNIT=feedback.dim() == 1,
        )
    return out


def _fake_backward(z: Tensor, previous: Tensor, y: Tensor, gradient: Tensor) -> Tensor:
    return z.new_empty((3, *z.shape))


@operator(
    "gru_cell_backward(Tensor z, Tensor previous, Tensor y, Tensor gradient) -> Tensor",
    _fake_backward,
)
def backward(z: Tensor, previous: Tensor, y: Tensor, gradient: Tensor) -> Tensor:
    """`nnet.kernels.cells.gru.gru_cell_gradient` of rows; the three gradients, (3, count, C)."""
    target = _fake_backward(z, previous, y, gradient)
    elements = z.numel()
    if elements:
        _backward(
            lambda meta: (triton.cdiv(elements, meta["BLOCK"]),),
            like=z.dtype,
            z=z.contiguous(),
            previous=previous.contiguous(),
            y=y.contiguous(),
            gradient=gradient.contiguous(),
            target=target,
            elements=elements,
            cells=z.shape[1],
        )
    return target
