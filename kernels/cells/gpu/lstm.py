"""Kernels of `nnet.kernels.cells.lstm`: each element is read once and written once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnet.kernels.gpu import (
    Configuration,
    Specimen,
    device_function,
    kernel,
    operator,
    tl,
    triton,
)

CONFIGURATIONS = (
    Configuration({"ROWS": 1, "COLUMNS": 1024}, warps=4),
    Configuration({"ROWS": 4, "COLUMNS": 256}, warps=4),
)
"""Bound by memory: many bytes in flight, for wide cells and for narrow ones."""

INTERPRETED = {"ROWS": 8, "COLUMNS": 32}


def _specimens(names: tuple[str, ...], **more: Any) -> list[Specimen]:
    sizes = {"count": 9600, "cells": 1024, "width": 5123, "MASKS": True}
    return [
        Specimen(name, {**dict.fromkeys(names, dtype), "peepholes": torch.float32, **sizes, **more})
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    ]


@device_function
def _tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@device_function
def _load(base, mask):
    return tl.load(base, mask=mask, other=0.0).to(tl.float32)


@device_function
def _factor(x, row, width, cells, gate, there, MASKS: tl.constexpr):
    """The factor of a gate, (rows, 1)."""
    place = x + row * width + 5 * cells + gate
    return tl.load(place, mask=there & MASKS, other=1.0).to(tl.float32)


@kernel(configurations=CONFIGURATIONS, interpreted=INTERPRETED, specimens=_specimens(("x", "out")))
def _forward(
    x,
    peepholes,
    out,
    count,
    cells,
    width,
    MASKS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None].to(tl.int64)  # [ROWS, 1]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]  # [1, COLUMNS]
    used, there = column < cells, row < count
    mask = used & there
    at = x + row * width + column
    previous = _load(at + 4 * cells, mask)
    f = tl.sigmoid(_load(at + cells, mask) + _load(peepholes + cells + column, used) * previous)
    cell = _factor(x, row, width, cells, 1, there, MASKS) * f * previous
    i = tl.sigmoid(_load(at, mask) + _load(peepholes + column, used) * previous)
    i *= _factor(x, row, width, cells, 0, there, MASKS)
    cell += i * _tanh(_load(at + 2 * cells, mask))
    o = _load(at + 3 * cells, mask) + _load(peepholes + 2 * cells + column, used) * cell
    o = tl.sigmoid(o) * _factor(x, row, width, cells, 2, there, MASKS)
    to = out + row * (2 * cells) + column
    tl.store(to, cell, mask=mask)
    tl.store(to + cells, o * _tanh(cell), mask=mask)


@kernel(
    configurations=CONFIGURATIONS,
    interpreted=INTERPRETED,
    specimens=_specimens(("x", "y", "gradient", "target"), repair=torch.float32, REPAIR=True),
)
def _backward(
    x,
    y,
    peepholes,
    gradient,
    repair,
    target,
    count,
    cells,
    width,
    MASKS: tl.constexpr,
    REPAIR: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None].to(tl.int64)  # [ROWS, 1]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]  # [1, COLUMNS]
    used, there = column < cells, row < count
    mask = used & there
    at, to = x + row * width + column, target + row * width + column
    w_ic = _load(peepholes + column, used)
    w_fc = _load(peepholes + cells + column, used)
    w_oc = _load(peepholes + 2 * cells + column, used)
    d_i = _factor(x, row, width, cells, 0, there, MASKS)
    d_f = _factor(x, row, width, cells, 1, there, MASKS)
    d_o = _factor(x, row, width, cells, 2, there, MASKS)
    of_y = gradient + row * (2 * cells) + column
    previous = _load(at + 4 * cells, mask)
    cell = _load(y + row * (2 * cells) + column, mask)
    i = tl.sigmoid(_load(at, mask) + w_ic * previous)
    f = tl.sigmoid(_load(at + cells, mask) + w_fc * previous)
    g = _tanh(_load(at + 2 * cells, mask))
    o = tl.sigmoid(_load(at + 3 * cells, mask) + w_oc * cell)
    m = _tanh(cell)
    of_m = d_o * _load(of_y + cells, mask)
    to_o = of_m * m * o * (1 - o)
    if REPAIR:
        to_o += _load(repair + 3 * cells + column, used) * (2 * o - 1)
    of_cell = _load(of_y, mask) + of_m * o * (1 - m * m) + to_o * w_oc
    if REPAIR:
        of_cell += _load(repair + 4 * cells + column, used) * m
    to_i = d_i * of_cell * g * i * (1 - i)
    to_f = d_f * of_cell * previous * f * (1 - f)
    to_g = d_i * of_cell * i * (1 - g * g)
    if REPAIR:
        to_i += _load(repair + column, used) * (2 * i - 1)
        to_f += _load(repair + cells + column, used) * (2 * f - 1)
        to_g += _load(repair + 2 * cells + column, used) * g
    tl.store(to, to_i, mask=mask)
    tl.store(to + cells, to_f, mask=mask)
    tl.store(to + 2 * cells, to_g, mask=mask)
    tl.store(to + 3 * cells, to_o, mask=mask)
    tl.store(to + 4 * cells, d_f * of_cell * f + to_i * w_ic + to_f * w_fc, mask=mask)
    if MASKS:
        third = tl.arange(0, 4)[None, :]
        first = there & (third < 3) & (tl.program_id(1) == 0)
        zeros = tl.zeros([ROWS, 4], tl.float32)
        tl.store(target + row * width + 5 * cells + third, zeros, mask=first)


def _launch(run: Any, x: Tensor, peepholes: Tensor, **others: Any) -> None:
    count, width = x.shape
    cells = peepholes.shape[1]
    if count:
        run(
            lambda meta: (triton.cdiv(count, meta["ROWS"]), triton.cdiv(cells, meta["COLUMNS"])),
            like=(x.dtype, triton.next_power_of_2(cells)),
            x=x.contiguous(),
            peepholes=peepholes.contiguous(),
            count=count,
            cells=cells,
            width=width,
            MASKS=width > 5 * cells,
            **others,
        )


def _fake_forward(x: Tensor, peepholes: Tensor) -> Tensor:
    return x.new_empty((x.shape[0], 2 * peepholes.shape[1]))


@operator("lstm_cell(Tensor x, Tensor peepholes) -> Tensor", _fake_forward)
def forward(x: Tensor, peepholes: Tensor) -> Tensor:
    """`nnet.kernels.cells.lstm.lstm_cell` of rows (count, width)."""
    out = _fake_forward(x, peepholes)
    _launch(_forward, x, peepholes, out=out)
    return out


@operator(
    "lstm_cell_backward(Tensor x, Tensor y, Tensor peepholes, Tensor gradient, Tensor? repair) "
    "-> Tensor",
    lambda x, y, peepholes, gradient, repair: x.new_empty(x.shape),
)
def backward(
    x: Tensor, y: Tensor, peepholes: Tensor, gradient: Tensor, repair: Tensor | None
) -> Tensor:
    """`nnet.kernels.cells.lstm.lstm_cell_gradient` of rows."""
    target = x.new_empty(x.shape)
    _launch(
        _backward,
        x,
        peepholes,
        y=y.contiguous(),
        gradient=gradient.contiguous(),
        repair=peepholes if repair is None else repair.contiguous(),
        REPAIR=repair is not None,
        target=target,
    )
    return target
