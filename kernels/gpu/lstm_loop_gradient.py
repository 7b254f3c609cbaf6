"""The derivative of `nnet.kernels.lstm_loop`: programs that stay for the whole loop, see
`nnet.kernels.gpu.lstm_loop`. They meet when the gates' gradients are there, and when those for the
states are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnet.kernels.gpu.lstm_loop import (
    BLOCKS,
    groups_and_members,
    meet,
    shared_arguments,
    specimens,
    tanh,
    tile,
)
from nnet.kernels.gpu.support import Configuration, kernel, tl, triton
from nnet.kernels.lstm_loop import LstmGradients, LstmLoop

_GRADIENTS = ("of_out", "of_y", "of_x", "of_states", "partial", "norms", "repair")


def _gradient_arguments(_: torch.dtype) -> dict[str, Any]:
    return {
        **dict.fromkeys(_GRADIENTS, torch.float32),
        "boundaries": torch.uint8,
        "threshold": 30.0,
        "zeroing": 15.0,
        "parts": 80,
        "PARTS": 128,
        "ZEROING": True,
    }


@kernel(
    configurations=[Configuration({}, warps=8, stages=2)],
    interpreted={},
    specimens=specimens(_gradient_arguments),
)
def _backward(
    x,
    out,
    y,
    states,
    w_r,
    peepholes,
    w_p,
    b_p,
    of_out,
    of_y,
    of_x,
    of_states,
    partial,
    norms,
    boundaries,
    repair,
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
    threshold,
    zeroing,
    parts,
    REVERSE: tl.constexpr,
    PROJECTED: tl.constexpr,
    ZEROING: tl.constexpr,
    PRECISION: tl.constexpr,
    PARTS: tl.constexpr,
    ROWS: tl.constexpr,
    CELLS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """`partial` (state rows, parts) holds sums of squares of the gradients for state rows, by block
    of columns; with `of_states` it starts as zeros."""
    member = tl.program_id(0)
    lane = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    counter = counters + tl.program_id(1)
    state_width = cells + recurrent
    weights = w_r.dtype.element_ty
    met = 0
    for turn in range(steps):
        step = steps - 1 - turn
        start = rows - (step + 1) * width if REVERSE else step * width
        inside = (lane < width) & (start + lane >= 0) & (start + lane < rows)
        place = tl.cast(start, tl.int64)  # of the step; within it, 32 bits are enough
        x_now, of_x_now = x + place * (5 * cells), of_x + place * (5 * cells)
        out_now, of_out_now = out + place * (2 * cells), of_out + place * (2 * cells)
        of_y_now = of_y + place * projected
        of_read = of_states + (place + before) * state_width
        of_own = of_states + (place + first) * state_width
        partial_read, partial_own = (
            partial + (place + before) * parts,
            partial + (place + first) * parts,
        )
        part = tl.arange(0, PARTS)
        squares = tile(partial_own, lane, parts, part, inside[:, None] & (part < parts)[None, :])
        norm = tl.sqrt(tl.sum(squares, axis=1))  # [ROWS]
        if member == 0:
            tl.store(norms + place + lane, norm, mask=inside)
        norm *= tl.abs(scale)
        limit = tl.where(threshold > 0, threshold, 1.0)
        factor = scale / tl.where(threshold > 0, tl.maximum(norm / limit, 1.0), 1.0)
        if ZEROING:
            at_boundary = tl.load(boundaries + place + lane, mask=inside, other=0) != 0
            factor = tl.where(at_boundary & (norm > zeroing), 0.0, factor)
        factor = factor[:, None]
        for block in range(member, tl.cdiv(cells, CELLS), members):
            cell = block * CELLS + tl.arange(0, CELLS)
            used = cell < cells
            mask = inside[:, None] & used[None, :]  # [ROWS, CELLS]
            at = of_out_now + lane[:, None] * (2 * cells) + cell[None, :]
            of_m = tl.load(at + cells, mask=mask, other=0.0)
            if PROJECTED:
                for k in range(0, projected, DEPTH):
                    depth = k + tl.arange(0, DEPTH)
                    there = inside[:, None] & (depth < projected)[None, :]
                    given = tl.load(
                        of_y_now + lane[:, None] * projected + depth[None, :], mask=there, other=0.0
                    )
                    there = inside[:, None] & (depth < recurrent)[None, :]
                    given += factor * tile(of_own, lane, state_width, cells + depth, there)
                    share = tl.load(
                        w_p + depth[:, None] * cells + cell[None, :],
                        mask=(depth < projected)[:, None] & used[None, :],
                        other=0.0,
                    )
                    of_m += tl.dot(given.to(weights), share, input_precision=PRECISION)
            else:
                mask_r = mask & (cell < recurrent)[None, :]
                of_m += factor * tile(of_own, lane, state_width, cells + cell, mask_r)
            of_cell = tl.load(at, mask=mask, other=0.0)
            of_cell += factor * tile(of_own, lane, state_width, cell, mask)
            at = x_now + lane[:, None] * (5 * cells) + cell[None, :]
            previous = tl.load(at + 4 * cells, mask=mask, other=0.0)
            made = tl.load(
                out_now + lane[:, None] * (2 * cells) + cell[None, :], mask=mask, other=0.0
            )
            w_ic = tl.load(peepholes + cell, mask=used, other=0.0)[None, :]
            w_fc = tl.load(peepholes + cells + cell, mask=used, other=0.0)[None, :]
            w_oc = tl.load(peepholes + 2 * cells + cell, mask=used, other=0.0)[None, :]
            unit = repair + cell
            o = tl.sigmoid(tl.load(at + 3 * cells, mask=mask, other=0.0) + w_oc * made)
            m = tanh(made)
            to_o = of_m * m * o * (1 - o)
            push = tl.load(unit + 3 * cells, mask=used, other=0.0)[None, :] * (2 * o - 1)
            of_cell += of_m * o * (1 - m * m) + (to_o + push) * w_oc
            of_cell += tl.load(unit + 4 * cells, mask=used, other=0.0)[None, :] * m
            to = of_x_now + lane[:, None] * (5 * cells) + cell[None, :]
            tl.store(to + 3 * cells, to_o + push, mask=mask)
            i = tl.sigmoid(tl.load(at, mask=mask, other=0.0) + w_ic * previous)
            g = tanh(tl.load(at + 2 * cells, mask=mask, other=0.0))
            to_g = of_cell * i * (1 - g * g)
            to_g += tl.load(unit + 2 * cells, mask=used, other=0.0)[None, :] * g
            tl.store(to + 2 * cells, to_g, mask=mask)
            to_i = of_cell * g * i * (1 - i)
            to_i += tl.load(unit, mask=used, other=0.0)[None, :] * (2 * i - 1)
            tl.store(to, to_i, mask=mask)
            f = tl.sigmoid(tl.load(at + cells, mask=mask, other=0.0) + w_fc * previous)
            to_f = of_cell * previous * f * (1 - f)
            to_f += tl.load(unit + cells, mask=used, other=0.0)[None, :] * (2 * f - 1)
            tl.store(to + cells, to_f, mask=mask)
            to_previous = of_cell * f + to_i * w_ic + to_f * w_fc
            tl.store(to + 4 * cells, to_previous, mask=mask)
            tl.store(of_read + lane[:, None] * state_width + cell[None, :], to_previous, mask=mask)
            own_squares = tl.sum(tl.where(mask, to_previous * to_previous, 0.0), axis=1)
            tl.store(partial_read + lane * parts + block, own_squares, mask=inside)
        met += members
        meet(counter, members, met)
        for block in range(member, tl.cdiv(recurrent, CELLS), members):
            column = block * CELLS + tl.arange(0, CELLS)
            used = column < recurrent
            mask = inside[:, None] & used[None, :]
            if PROJECTED:  # nobody of this group reads these rows any more
                at = of_y_now + lane[:, None] * projected + column[None, :]
                all_of_y = tl.load(at, mask=mask, other=0.0)
                all_of_y += factor * tile(of_own, lane, state_width, cells + column, mask)
                tl.store(at, all_of_y, mask=mask)
            total = tl.zeros([ROWS, CELLS], tl.float32)
            for k in range(0, 4 * cells, DEPTH):
                depth = k + tl.arange(0, DEPTH)
                there = inside[:, None] & (depth < 4 * cells)[None, :]
                given = tile(of_x_now, lane, 5 * cells, depth, there)
                share = tl.load(
                    w_r + depth[:, None] * recurrent + column[None, :],
                    mask=(depth < 4 * cells)[:, None] & used[None, :],
                    other=0.0,
                )
                total += tl.dot(given.to(weights), share, input_precision=PRECISION)
            to = of_read + lane[:, None] * state_width + (cells + column)[None, :]
            tl.store(to, total, mask=mask)
            own_squares = tl.sum(tl.where(mask, total * total, 0.0), axis=1)
            part_number = tl.cdiv(cells, CELLS) + block
            tl.store(partial_read + lane * parts + part_number, own_squares, mask=inside)
        met += members
        meet(counter, members, met)


def launch_backward(loop: LstmLoop, gradients: LstmGradients) -> None:
    """`nnet.kernels.lstm_loop.lstm_loop_backward`."""
    groups, members = groups_and_members(loop)
    size = BLOCKS["CELLS"]
    parts = triton.cdiv(loop.cells, size) + triton.cdiv(loop.w_r.shape[1], size)
    boundaries, repair = gradients.boundaries, gradients.repair
    zeros = loop.x.new_zeros
    _backward(
        lambda _: (members, groups),
        **shared_arguments(loop, groups, members),
        of_out=gradients.out,
        of_y=gradients.out if gradients.y is None else gradients.y,
        of_x=gradients.x,
        of_states=torch.zeros_like(loop.states),
        partial=zeros((loop.states.shape[0], parts)),
        norms=gradients.norms,
        boundaries=_bytes(boundaries, loop.x),
        repair=zeros((5, loop.cells)) if repair is None else repair,
        threshold=gradients.threshold,
        zeroing=gradients.zeroing,
        parts=parts,
        PARTS=triton.next_power_of_2(parts),
        ZEROING=boundaries is not None,
    )


def _bytes(boundaries: Tensor | None, like: Tensor) -> Tensor:
    if boundaries is None:
        return torch.empty(0, dtype=torch.uint8, device=like.device)
    return boundaries.to(torch.uint8).contiguous()
