"""Kernels of `nnet.kernels.normalization.batch_norm`.

Each way the rows are read twice: for sums over columns, made in parts by rows and added up in order
by a small kernel, and for the result. All are bound by memory: a program has some 32 elements a
thread in flight.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.gpu import (
    INTERPRETED,
    Configuration,
    Specimen,
    kernel,
    operator,
    tl,
    triton,
)

TILES = (
    Configuration({"ROWS": 32, "COLUMNS": 128}, warps=4),  # 512 bytes of a row of float32
    Configuration({"ROWS": 64, "COLUMNS": 64}, warps=4),  # few columns, as in images
)
SMALL = {"ROWS": 8, "COLUMNS": 16}
ADDING = [Configuration({"COLUMNS": 32}, warps=4)]  # as many programs as columns allow
MOST_PARTS = 8 if INTERPRETED else 128
"""Into how many parts rows are split at most: with 12 tiles of columns, 4 programs and more for
each multiprocessor."""


def specimens(**arguments: object) -> list[Specimen]:
    """float32 with a bypass, bfloat16 without; `like_x` has the type of the rows."""
    listed = []
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        given = {key: dtype if value == "like_x" else value for key, value in arguments.items()}
        if name == "bf16" and "bypass" in given:
            given["bypass"] = None
        listed.append(Specimen(name, {"rows": 9600, "dim": 1536, **given}))
    return listed


@kernel(
    configurations=TILES,
    interpreted=SMALL,
    specimens=specimens(x="like_x", sums=torch.float32, per_part=128, RELU=True),
)
def _sums(
    x,
    sums,
    rows,
    dim,
    per_part,
    RELU: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Sums over each part of the rows, (parts, 3, dim): of z - shift and of its square, where shift
    is the first row's z, so that nothing is lost where the mean is large; and of z > 0."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    part = tl.program_id(1)
    lanes = tl.arange(0, ROWS)
    shift = tl.load(x + column, mask=column < dim, other=0.0).to(tl.float32)
    if RELU:
        shift = tl.where(shift < 0, 0.0, shift)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    squares = tl.zeros((ROWS, COLUMNS), tl.float32)
    on = tl.zeros((ROWS, COLUMNS), tl.float32)
    end = tl.minimum((part + 1) * per_part, rows)
    for begin in range(part * per_part, end, ROWS):
        row = begin + lanes
        mask = (row < end)[:, None] & (column < dim)[None, :]
        at = row[:, None].to(tl.int64) * dim + column[None, :]
        z = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        if RELU:
            z = tl.where(z < 0, 0.0, z)
        on += tl.where(z > 0, 1.0, 0.0)
        z = tl.where(mask, z - shift[None, :], 0.0)
        total += z
        squares += z * z
    part_at = sums + part.to(tl.int64) * 3 * dim + column
    tl.store(part_at, tl.sum(total, 0), mask=column < dim)
    tl.store(part_at + dim, tl.sum(squares, 0), mask=column < dim)
    tl.store(part_at + 2 * dim, tl.sum(on, 0), mask=column < dim)


@kernel(
    configurations=ADDING,
    interpreted={"COLUMNS": 16},
    specimens=specimens(
        x="like_x",
        sums=torch.float32,
        mean=torch.float32,
        variance=torch.float32,
        on=torch.float32,
        parts=75,
        RELU=True,
        PARTS=128,
    ),
)
def _statistics(
    x,
    sums,
    mean,
    variance,
    on,
    rows,
    dim,
    parts,
    RELU: tl.constexpr,
    PARTS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Mean, variance and number of z > 0, (dim,) each, from the sums (parts, 3, dim) of `_sums`."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    part = tl.arange(0, PARTS)
    mask = (part < parts)[:, None] & (column < dim)[None, :]
    at = sums + part[:, None] * 3 * dim + column[None, :]
    shift = tl.load(x + column, mask=column < dim, other=0.0).to(tl.float32)
    if RELU:
        shift = tl.where(shift < 0, 0.0, shift)
    average = tl.sum(tl.load(at, mask=mask, other=0.0), 0) / rows
    square = tl.sum(tl.load(at + dim, mask=mask, other=0.0), 0) / rows
    power = square - average * average
    tl.store(mean + column, average + shift, mask=column < dim)
    tl.store(variance + column, tl.where(power < 0, 0.0, power), mask=column < dim)
    count = tl.sum(tl.load(at + 2 * dim, mask=mask, other=0.0), 0)
    tl.store(on + column, count, mask=column < dim)


@kernel(
    configurations=TILES,
    interpreted=SMALL,
    specimens=specimens(
        x="like_x",
        mean=torch.float32,
        variance=torch.float32,
        bypass="like_x",
        y="like_x",
        target_rms=1.0,
        epsilon=0.001,
        bypass_scale=0.66,
        RELU=True,
    ),
)
def _apply(
    x,
    mean,
    variance,
    bypass,
    y,
    rows,
    dim,
    target_rms,
    epsilon,
    bypass_scale,
    RELU: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One tile (ROWS, COLUMNS) of y = (z - mean) rms / sqrt(variance + epsilon) + scale bypass."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    here = column < dim
    scale = target_rms * tl.rsqrt(tl.load(variance + column, mask=here, other=1.0) + epsilon)
    middle = tl.load(mean + column, mask=here, other=0.0)
    mask = (row < rows)[:, None] & here[None, :]
    at = row[:, None].to(tl.int64) * dim + column[None, :]
    z = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        z = tl.where(z < 0, 0.0, z)
    normalized = (z - middle[None, :]) * scale[None, :]
    if bypass is not None:
        normalized += bypass_scale * tl.load(bypass + at, mask=mask, other=0.0).to(tl.float32)
    tl.store(y + at, normalized, mask=mask)


@kernel(
    configurations=[Configuration({}, warps=8)],  # one program: all columns must be finite
    interpreted={},
    specimens=[
        Specimen(
            "fp32",
            {
                **dict.fromkeys(("count", "stored_mean", "stored_variance"), torch.float32),
                **dict.fromkeys(("mean", "variance"), torch.float32),
                "rows": 9600,
                "dim": 1536,
                "COLUMNS": 2048,
            },
        )
    ],
)
def _merge(count, stored_mean, stored_variance, mean, variance, rows, dim, COLUMNS: tl.constexpr):
    """Stored mean and variance (dim,) together with those of `rows` more rows; if any of these is
    not finite, they are left out."""
    column = tl.arange(0, COLUMNS)
    here = column < dim
    middle = tl.load(mean + column, mask=here, other=0.0).to(tl.float32)
    power = tl.load(variance + column, mask=here, other=0.0).to(tl.float32)
    before = tl.load(stored_mean + column, mask=here, other=0.0).to(tl.float32)
    spread = tl.load(stored_variance + column, mask=here, other=0.0).to(tl.float32)
    counted = tl.load(count).to(tl.float32)
    finite = tl.abs(middle + power) < float("inf")  # NaN is not
    counts = tl.sum(tl.where(finite, 0, 1), 0) == 0
    added = tl.where(counts, rows, 0).to(tl.float32)
    share = added / tl.maximum(counted + added, 1.0)
    difference = tl.where(counts, middle - before, 0.0)
    spread += share * tl.where(counts, power - spread, 0.0)
    spread += share * (1 - share) * difference * difference
    tl.store(stored_mean + column, before + share * difference, mask=here)
    tl.store(stored_variance + column, spread, mask=here)
    tl.store(count, counted + added)


def split(rows: int) -> tuple[int, int]:
    """Parts of rows, and the rows in each: at least 64 where there are as many."""
    per_part = max(triton.cdiv(rows, MOST_PARTS), min(rows, 4 if INTERPRETED else 64))
    return triton.cdiv(rows, per_part), per_part


def reduced(run, like: object, kinds: int, x: Tensor, **arguments: object) -> Tensor:
    """The sums `(parts, kinds, dim)` that the kernel `run` makes over parts of the rows of `x`."""
    rows, dim = x.shape
    parts, per_part = split(rows)
    sums = x.new_empty((parts, kinds, dim), dtype=torch.float32)
    run(
        lambda meta: (triton.cdiv(dim, meta["COLUMNS"]), parts),
        like=like,
        x=x,
        sums=sums,
        rows=rows,
        dim=dim,
        per_part=per_part,
        **arguments,
    )
    return sums


def tiles(rows: int, dim: int):
    """The grid over rows and columns, by the block sizes of a configuration."""
    return lambda meta: (triton.cdiv(rows, meta["ROWS"]), triton.cdiv(dim, meta["COLUMNS"]))


def _fake_forward(
    x: Tensor, bypass: Tensor | None, *options: object
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean = x.new_empty((x.shape[1],), dtype=torch.float32)
    return x.new_empty(x.shape), mean, torch.empty_like(mean), torch.empty_like(mean)


@operator(
    "batch_norm(Tensor x, Tensor? bypass, float target_rms, float epsilon, bool relu,"
    " float bypass_scale) -> (Tensor, Tensor, Tensor, Tensor)",
    fake=_fake_forward,
)
def batch_norm_forward(
    x: Tensor,
    bypass: Tensor | None,
    target_rms: float,
    epsilon: float,
    relu: bool,
    bypass_scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y = rms (z - mean) / sqrt(variance + epsilon) + scale bypass, z = relu(x) or x, over rows `x`
    `(rows, dim)`.

    Returns:
        y `(rows, dim)`; and (dim,) each: mean, variance, and in how many rows z > 0.
    """
    y, mean, variance, on = _fake_forward(x, bypass)
    if y.numel() == 0:
        return y, mean.zero_(), variance.zero_(), on.zero_()
    x = x.contiguous()
    rows, dim = x.shape
    sums = reduced(_sums, dim, 3, x, RELU=relu)
    _statistics(
        lambda meta: (triton.cdiv(dim, meta["COLUMNS"]),),
        x=x,
        sums=sums,
        mean=mean,
        variance=variance,
        on=on,
        rows=rows,
        dim=dim,
        parts=len(sums),
        RELU=relu,
        PARTS=MOST_PARTS,
    )
    _apply(
        tiles(rows, dim),
        like=dim,
        x=x,
        mean=mean,
        variance=variance,
        bypass=None if bypass is None else bypass.contiguous(),
        y=y,
        rows=rows,
        dim=dim,
        target_rms=target_rms,
        epsilon=epsilon,
        bypass_scale=bypass_scale,
        RELU=relu,
    )
    return y, mean, variance, on


def _fake_merge(*statistics: object) -> None:
    return None


@operator(
    "batch_norm_merge(Tensor(a!) count, Tensor(b!) stored_mean, Tensor(c!) stored_variance,"
    " Tensor mean, Tensor variance, int rows) -> ()",
    fake=_fake_merge,
)
def merge(
    count: Tensor,
    stored_mean: Tensor,
    stored_variance: Tensor,
    mean: Tensor,
    variance: Tensor,
    rows: int,
) -> None:
    """Merges mean and variance (dim,) of a minibatch into the stored ones, weighted by their rows,
    in one launch: `nnet.kernels.normalization.batch_norm.merge_statistics` on a GPU."""
    _merge(
        lambda meta: (1,),
        count=count,
        stored_mean=stored_mean,
        stored_variance=stored_variance,
        mean=mean,
        variance=variance,
        rows=rows,
        dim=len(mean),
        COLUMNS=triton.next_power_of_2(len(mean)),
    )
