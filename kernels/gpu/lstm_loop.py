"""Kernels of `nnet.kernels.lstm_loop`: programs that stay for the whole loop.

Rows of a step are cut into groups that never need each other; the programs of a group share the
cells, and meet twice a step: once when all of m is there, once when all of r is. A program whose
cells are one block keeps their recurrent weights on chip for all steps. All programs of a group
have to run at the same time, so there are no more of them than processors.

What other programs of the group have written is read past the level-1 cache (`.cg`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from nnet.kernels.gpu.support import (
    INTERPRETED,
    Configuration,
    Specimen,
    device_function,
    input_precision,
    kernel,
    tl,
    triton,
)
from nnet.kernels.lstm_loop import LstmLoop

BLOCKS = (
    {"ROWS": 16, "CELLS": 16, "DEPTH": 16}
    if INTERPRETED
    else {
        "ROWS": 64,
        "CELLS": 16,
        "DEPTH": 64,
    }
)
"""Rows and columns of what a program makes at a time, and how much of a sum."""

RESIDENT_COLUMNS = 256
"""Up to this many columns of r are read at once, by weights that stay on chip: those of 16 cells
take 32 KiB in bf16, and more would not fit in registers as operands of sm_80's products."""

_SIZES = {"rows": 9600, "width": 192, "steps": 50, "first": 192, "before": 0, "members": 32}
_DIMS = {"cells": 1024, "recurrent": 256, "projected": 512}
_FLOATS = ("x", "out", "y", "states", "peepholes", "b_p")


def specimens(more: Callable[[torch.dtype], dict[str, Any]]) -> list[Specimen]:
    """1024 cells with a projection to 256 + 256, at 64 sequences with delay -3.

    Args:
        more: arguments beside those of both kernels, by the weights' type.
    """
    found = []
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        arguments: dict[str, Any] = {
            **dict.fromkeys(_FLOATS, torch.float32),
            "w_r": dtype,
            "w_p": dtype,
            "counters": torch.int32,
            "scale": 1.0,
            **_SIZES,
            **_DIMS,
            "REVERSE": False,
            "PROJECTED": True,
            "PRECISION": "tf32",
            "ROWS": 64,
            "CELLS": 16,
            "DEPTH": 64,
            **more(dtype),
        }
        found.append(Specimen(name, arguments))
    return found


@device_function
def meet(counter, members, target):
    """Waits until all programs of a group have come here, `target` calls in all."""
    if members > 1:
        tl.debug_barrier()
        seen = tl.atomic_add(counter, 1, sem="acq_rel") + 1
        while seen < target:
            seen = tl.atomic_add(counter, 0, sem="acquire")
        tl.debug_barrier()


@device_function
def tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@device_function
def tile(base, row, stride, column, mask):
    """Rows and columns as other programs left them, (rows, columns)."""
    place = base + row[:, None] * stride + column[None, :]
    return tl.load(place, mask=mask, other=0.0, cache_modifier=".cg")


@device_function
def _gate_weights(w_r, depth, cell, gate, cells, recurrent):
    """(depth, cell) of one gate's recurrent weights."""
    place = w_r + (gate * cells + cell)[None, :] * recurrent + depth[:, None]
    return tl.load(place, mask=(depth < recurrent)[:, None] & (cell < cells)[None, :], other=0.0)


@kernel(
    configurations=[Configuration({}, warps=8, stages=1)],
    interpreted={},
    specimens=specimens(
        lambda dtype: {"BIAS": True, "RESIDENT": 256 if dtype == torch.bfloat16 else 0}
    ),
)
def _forward(
    x,
    out,
    y,
    states,
    w_r,
    peepholes,
    w_p,
    b_p,
    counters,
    rows,
    width,
    steps,
    first,
    before,
    members,
    cells,
    recurrent,
    projected,
    scale,
    REVERSE: tl.constexpr,
    PROJECTED: tl.constexpr,
    BIAS: tl.constexpr,
    RESIDENT: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    CELLS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    member = tl.program_id(0)
    lane = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    counter = counters + tl.program_id(1)
    state_width = cells + recurrent
    weights = w_r.dtype.element_ty
    met = 0
    if RESIDENT > 0:
        kept_depth = tl.arange(0, RESIDENT)
        kept_cell = member * CELLS + tl.arange(0, CELLS)
        kept_i = _gate_weights(w_r, kept_depth, kept_cell, 0, cells, recurrent)
        kept_f = _gate_weights(w_r, kept_depth, kept_cell, 1, cells, recurrent)
        kept_g = _gate_weights(w_r, kept_depth, kept_cell, 2, cells, recurrent)
        kept_o = _gate_weights(w_r, kept_depth, kept_cell, 3, cells, recurrent)
    for step in range(steps):
        start = rows - (step + 1) * width if REVERSE else step * width
        inside = (lane < width) & (start + lane >= 0) & (start + lane < rows)
        place = tl.cast(start, tl.int64)  # of the step; within it, 32 bits are enough
        x_now = x + place * (5 * cells)
        out_now = out + place * (2 * cells)
        y_now = y + place * projected
        read_now = states + (place + before) * state_width
        own_now = states + (place + first) * state_width
        for block in range(member, tl.cdiv(cells, CELLS), members):
            cell = block * CELLS + tl.arange(0, CELLS)
            used = cell < cells
            mask = inside[:, None] & used[None, :]  # [ROWS, CELLS]
            at = x_now + lane[:, None] * (5 * cells) + cell[None, :]
            i = tl.load(at, mask=mask, other=0.0)
            f = tl.load(at + cells, mask=mask, other=0.0)
            g = tl.load(at + 2 * cells, mask=mask, other=0.0)
            o = tl.load(at + 3 * cells, mask=mask, other=0.0)
            if RESIDENT > 0:
                whole = tl.arange(0, RESIDENT)
                all_there = inside[:, None] & (whole < recurrent)[None, :]
                all_r = tile(read_now, lane, state_width, cells + whole, all_there).to(weights)
                i += tl.dot(all_r, kept_i, input_precision=PRECISION)
                f += tl.dot(all_r, kept_f, input_precision=PRECISION)
                g += tl.dot(all_r, kept_g, input_precision=PRECISION)
                o += tl.dot(all_r, kept_o, input_precision=PRECISION)
            else:
                for k in range(0, recurrent, DEPTH):
                    depth = k + tl.arange(0, DEPTH)
                    there = inside[:, None] & (depth < recurrent)[None, :]
                    r = tile(read_now, lane, state_width, cells + depth, there).to(weights)
                    part = _gate_weights(w_r, depth, cell, 0, cells, recurrent)
                    i += tl.dot(r, part, input_precision=PRECISION)
                    part = _gate_weights(w_r, depth, cell, 1, cells, recurrent)
                    f += tl.dot(r, part, input_precision=PRECISION)
                    part = _gate_weights(w_r, depth, cell, 2, cells, recurrent)
                    g += tl.dot(r, part, input_precision=PRECISION)
                    part = _gate_weights(w_r, depth, cell, 3, cells, recurrent)
                    o += tl.dot(r, part, input_precision=PRECISION)
            previous = tile(read_now, lane, state_width, cell, mask)
            tl.store(at, i, mask=mask)
            tl.store(at + cells, f, mask=mask)
            tl.store(at + 2 * cells, g, mask=mask)
            tl.store(at + 3 * cells, o, mask=mask)
            tl.store(at + 4 * cells, previous, mask=mask)
            w_ic = tl.load(peepholes + cell, mask=used, other=0.0)[None, :]
            w_fc = tl.load(peepholes + cells + cell, mask=used, other=0.0)[None, :]
            w_oc = tl.load(peepholes + 2 * cells + cell, mask=used, other=0.0)[None, :]
            made = tl.sigmoid(f + w_fc * previous) * previous
            made += tl.sigmoid(i + w_ic * previous) * tanh(g)
            m = tl.sigmoid(o + w_oc * made) * tanh(made)
            to = out_now + lane[:, None] * (2 * cells) + cell[None, :]
            tl.store(to, made, mask=mask)
            tl.store(to + cells, m, mask=mask)
            to = own_now + lane[:, None] * state_width + cell[None, :]
            tl.store(to, scale * made, mask=mask)
            if not PROJECTED:
                tl.store(to + cells, scale * m, mask=mask & (cell < recurrent)[None, :])
        met += members
        meet(counter, members, met)
        if PROJECTED:
            for block in range(member, tl.cdiv(projected, CELLS), members):
                column = block * CELLS + tl.arange(0, CELLS)
                used = column < projected
                mask = inside[:, None] & used[None, :]
                total = tl.zeros([ROWS, CELLS], tl.float32)
                for k in range(0, cells, DEPTH):
                    depth = k + tl.arange(0, DEPTH)
                    there = inside[:, None] & (depth < cells)[None, :]
                    some_m = tile(out_now, lane, 2 * cells, cells + depth, there).to(weights)
                    part = tl.load(
                        w_p + column[None, :] * cells + depth[:, None],
                        mask=(depth < cells)[:, None] & used[None, :],
                        other=0.0,
                    )
                    total += tl.dot(some_m, part, input_precision=PRECISION)
                if BIAS:
                    total += tl.load(b_p + column, mask=used, other=0.0)[None, :]
                tl.store(y_now + lane[:, None] * projected + column[None, :], total, mask=mask)
                to = own_now + lane[:, None] * state_width + (cells + column)[None, :]
                tl.store(to, scale * total, mask=mask & (column < recurrent)[None, :])
            met += members
            meet(counter, members, met)


def groups_and_members(loop: LstmLoop) -> tuple[int, int]:
    """Into how many groups rows are cut, and programs in each."""
    groups = triton.cdiv(min(loop.width, loop.rows), BLOCKS["ROWS"])
    if INTERPRETED:  # one program after the other: none may wait for another
        return groups, 1
    processors = torch.cuda.get_device_properties(loop.x.device).multi_processor_count
    return groups, max(1, min(triton.cdiv(loop.cells, BLOCKS["CELLS"]), processors // groups))


def shared_arguments(loop: LstmLoop, groups: int, members: int) -> dict[str, Any]:
    """What both kernels take."""
    projected = 0 if loop.w_p is None else loop.w_p.shape[0]
    return {
        "x": loop.x,
        "out": loop.out,
        "y": loop.out if loop.y is None else loop.y,
        "states": loop.states,
        "w_r": loop.w_r.contiguous(),
        "peepholes": loop.peepholes.contiguous(),
        "w_p": loop.w_r if loop.w_p is None else loop.w_p.contiguous(),
        "b_p": loop.peepholes if loop.b_p is None else loop.b_p,
        "counters": torch.zeros(groups, dtype=torch.int32, device=loop.x.device),
        "rows": loop.rows,
        "width": loop.width,
        "steps": triton.cdiv(loop.rows, loop.width),
        "first": loop.first,
        "before": loop.before,
        "members": members,
        "cells": loop.cells,
        "recurrent": loop.w_r.shape[1],
        "projected": projected,
        "scale": loop.scale,
        "REVERSE": loop.reverse,
        "PROJECTED": loop.w_p is not None,
        "PRECISION": input_precision(loop.w_r.dtype),
        **BLOCKS,
    }


def launch_forward(loop: LstmLoop) -> None:
    """`nnet.kernels.lstm_loop.lstm_loop_forward`."""
    groups, members = groups_and_members(loop)
    recurrent = loop.w_r.shape[1]
    alone = members == triton.cdiv(loop.cells, BLOCKS["CELLS"])
    resident = alone and recurrent <= RESIDENT_COLUMNS
    _forward(
        lambda _: (members, groups),
        **shared_arguments(loop, groups, members),
        BIAS=loop.b_p is not None,
        RESIDENT=max(16, triton.next_power_of_2(recurrent)) if resident else 0,
    )
