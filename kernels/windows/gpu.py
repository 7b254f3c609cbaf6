"""Kernels of `nnet.kernels.windows.reference`: a program for a window, or a row, and some columns
of all sequences.

Both ways whole lists are read in order, so that results repeat. Sums are float64: where all rows
are equal, the variance that is made of them is to be zero, not what rounding leaves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.gpu import Configuration, Specimen, kernel, operator, tl, triton
from nnet.kernels.windows.windows import resident

SUMMING = (
    Configuration({"ROWS": 16, "COLUMNS": 128}, warps=4),  # 16 elements a thread in flight
    Configuration({"ROWS": 64, "COLUMNS": 32}, warps=4),  # long windows, few columns
)
SPREADING = [Configuration({"COLUMNS": 512}, warps=4)]  # 16 bytes a thread


def _specimens(*rows: str, **others: object) -> list[Specimen]:
    return [
        Specimen(name, {**dict.fromkeys(rows, dtype), "columns": 64 * 1504, "dim": 1504, **others})
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    ]


@kernel(
    configurations=SUMMING,
    interpreted={"ROWS": 4, "COLUMNS": 16},
    specimens=_specimens("x", y=torch.float64, ends=torch.int64, members=torch.int64, SQUARES=True),
)
def _forward(
    x,
    y,
    ends,
    members,
    columns,
    dim,
    SQUARES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Float64 sums over a window's rows of `x` (rows, columns), and of their squares if SQUARES;
    the squares of each sequence's `dim` columns follow their sums."""
    window = tl.program_id(0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    here = column < columns
    first, last = tl.load(ends + window), tl.load(ends + window + 1)
    lanes = tl.arange(0, ROWS)
    total = tl.zeros((ROWS, COLUMNS), tl.float64)
    squares = tl.zeros((ROWS, COLUMNS), tl.float64)
    for begin in range(first, last, ROWS):
        inside = begin + lanes < last
        row = tl.load(members + begin + lanes, mask=inside, other=0)
        mask = inside[:, None] & here[None, :]
        value = tl.load(x + row[:, None] * columns + column[None, :], mask=mask, other=0.0)
        value = value.to(tl.float64)
        total += value
        if SQUARES:
            squares += value * value
    sums_at = y + window.to(tl.int64) * columns * (1 + SQUARES)
    if SQUARES:  # a sequence's squares follow its sums: column b dim + c becomes 2 b dim + c
        sums_at += column // dim * (2 * dim) + column % dim
        tl.store(sums_at + dim, tl.sum(squares, 0), mask=here)
    else:
        sums_at += column
    tl.store(sums_at, tl.sum(total, 0), mask=here)


@kernel(
    configurations=SPREADING,
    interpreted={"COLUMNS": 16},
    specimens=_specimens(
        "x", "target", gradient=torch.float64, ends=torch.int64, windows=torch.int64, SQUARES=True
    ),
)
def _backward(
    x,
    gradient,
    target,
    ends,
    windows,
    columns,
    dim,
    SQUARES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """For one row: the derivative with respect to `x`, the sum over the windows that the row is
    in."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    here = column < columns
    first, last = tl.load(ends + row), tl.load(ends + row + 1)
    at = gradient + column
    if SQUARES:
        at = gradient + column // dim * (2 * dim) + column % dim
    total = tl.zeros((COLUMNS,), tl.float32)
    squares = tl.zeros((COLUMNS,), tl.float32)
    for i in range(first, last):
        begin = tl.load(windows + i) * columns * (1 + SQUARES)
        total += tl.load(at + begin, mask=here, other=0.0).to(tl.float32)
        if SQUARES:
            squares += tl.load(at + begin + dim, mask=here, other=0.0).to(tl.float32)
    if SQUARES:
        value = tl.load(x + row * columns + column, mask=here, other=0.0).to(tl.float32)
        total += 2 * value * squares
    tl.store(target + row * columns + column, total, mask=here)


def _fake_forward(x: Tensor, ends: Tensor, members: Tensor, squares: bool) -> Tensor:
    shape = (ends.shape[0] - 1, x.shape[1], x.shape[2] * (1 + squares))
    return x.new_empty(shape, dtype=torch.float64)


@operator(
    "window_sums(Tensor x, Tensor ends, Tensor members, bool squares) -> Tensor",
    fake=_fake_forward,
)
def forward(x: Tensor, ends: Tensor, members: Tensor, squares: bool) -> Tensor:
    """Sums of the rows `x` `(time, batch, dim)` that each window has, and of their squares if
    `squares`: `(windows, batch, dim)` or `(windows, batch, 2 dim)`, float64.

    Args:
        ends: `(windows + 1,)`, where each window's rows begin in `members`.
        members: the rows of all windows, one window after the other.
    """
    y = _fake_forward(x, ends, members, squares)
    columns = x.shape[1] * x.shape[2]
    if y.numel():
        _forward(
            lambda meta: (len(y), triton.cdiv(columns, meta["COLUMNS"])),
            like=(triton.next_power_of_2(columns), len(members) // len(y) > 64),
            x=x.contiguous(),
            y=y,
            ends=resident(ends, x.device),
            members=resident(members, x.device),
            columns=columns,
            dim=x.shape[2],
            SQUARES=squares,
        )
    return y


def _fake_backward(x: Tensor, *others: object) -> Tensor:
    return x.new_empty(x.shape)


@operator(
    "window_sums_backward(Tensor x, Tensor gradient, Tensor ends, Tensor windows, bool squares)"
    " -> Tensor",
    fake=_fake_backward,
)
def backward(x: Tensor, gradient: Tensor, ends: Tensor, windows: Tensor, squares: bool) -> Tensor:
    """The derivative with respect to `x` `(time, batch, dim)`, from that with respect to the sums.

    Args:
        ends: `(time + 1,)`, where the list of the windows that each row is in begins in `windows`.
    """
    target = _fake_backward(x)
    columns = x.shape[1] * x.shape[2]
    if target.numel():
        _backward(
            lambda meta: (len(x), triton.cdiv(columns, meta["COLUMNS"])),
            x=x.contiguous(),
            gradient=gradient.contiguous(),
            target=target,
            ends=resident(ends, x.device),
            windows=resident(windows, x.device),
            columns=columns,
            dim=x.shape[2],
            SQUARES=squares,
        )
    return target
