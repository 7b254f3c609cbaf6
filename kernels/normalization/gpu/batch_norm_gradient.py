"""The gradient of `nnet.kernels.normalization.batch_norm`: sums over columns first, then the
result."""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.gpu import Configuration, Specimen, kernel, operator, tl, triton
from nnet.kernels.normalization.gpu.batch_norm import (
    ADDING,
    MOST_PARTS,
    SMALL,
    TILES,
    reduced,
    specimens,
    split,
)


@kernel(
    configurations=TILES,
    interpreted=SMALL,
    specimens=specimens(
        gradient="like_x",
        x="like_x",
        mean=torch.float32,
        variance=torch.float32,
        sums=torch.float32,
        epsilon=0.001,
        per_part=128,
        RELU=True,
    ),
)
def _gradient_sums(
    gradient,
    x,
    mean,
    variance,
    sums,
    rows,
    dim,
    epsilon,
    per_part,
    RELU: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Sums over each part of the rows, (parts, 2, dim): of the derivative with respect to the
    result, and of its products with the normalised z."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    part = tl.program_id(1)
    lanes = tl.arange(0, ROWS)
    here = column < dim
    scale = tl.rsqrt(tl.load(variance + column, mask=here, other=1.0) + epsilon)
    middle = tl.load(mean + column, mask=here, other=0.0)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    products = tl.zeros((ROWS, COLUMNS), tl.float32)
    end = tl.minimum((part + 1) * per_part, rows)
    for begin in range(part * per_part, end, ROWS):
        row = begin + lanes
        mask = (row < end)[:, None] & here[None, :]
        at = row[:, None].to(tl.int64) * dim + column[None, :]
        z = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        if RELU:
            z = tl.where(z < 0, 0.0, z)
        given = tl.load(gradient + at, mask=mask, other=0.0).to(tl.float32)
        total += given
        products += given * (z - middle[None, :]) * scale[None, :]
    part_at = sums + part.to(tl.int64) * 2 * dim + column
    tl.store(part_at, tl.sum(total, 0), mask=here)
    tl.store(part_at + dim, tl.sum(products, 0), mask=here)


@kernel(
    configurations=ADDING,
    interpreted={"COLUMNS": 16},
    specimens=[
        Specimen(
            "fp32",
            {
                "sums": torch.float32,
                "means": torch.float32,
                "rows": 9600,
                "columns": 3072,
                "parts": 75,
                "PARTS": 128,
            },
        )
    ],
)
def _means(sums, means, rows, columns, parts, PARTS: tl.constexpr, COLUMNS: tl.constexpr):
    """Means over rows (columns,), from sums (parts, columns)."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    part = tl.arange(0, PARTS)
    mask = (part < parts)[:, None] & (column < columns)[None, :]
    part_sums = tl.load(sums + part[:, None] * columns + column[None, :], mask=mask, other=0.0)
    tl.store(means + column, tl.sum(part_sums, 0) / rows, mask=column < columns)


LOW_TILES = (
    Configuration({"ROWS": 16, "COLUMNS": 128}, warps=4, registers=128),
    Configuration({"ROWS": 32, "COLUMNS": 64}, warps=4, registers=128),
)
"""Half as large, where sums are kept in registers besides rows and result."""


@kernel(
    configurations=LOW_TILES,
    interpreted=SMALL,
    specimens=specimens(
        gradient="like_x",
        x="like_x",
        mean=torch.float32,
        variance=torch.float32,
        means=torch.float32,
        repair=torch.float32,
        squares=torch.float32,
        target="like_x",
        per_part=128,
        target_rms=1.0,
        epsilon=0.001,
        RELU=True,
    ),
)
def _apply_gradient(
    gradient,
    x,
    mean,
    variance,
    means,
    repair,
    squares,
    target,
    rows,
    dim,
    per_part,
    target_rms,
    epsilon,
    RELU: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """For each part of the rows: the derivative with respect to x, and the sums of the squares of
    the derivative with respect to z, before the unit's slope."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    part = tl.program_id(1)
    lanes = tl.arange(0, ROWS)
    here = column < dim
    scale = tl.rsqrt(tl.load(variance + column, mask=here, other=1.0) + epsilon)
    middle = tl.load(mean + column, mask=here, other=0.0)
    average = tl.load(means + column, mask=here, other=0.0)
    product = tl.load(means + dim + column, mask=here, other=0.0)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    end = tl.minimum((part + 1) * per_part, rows)
    for begin in range(part * per_part, end, ROWS):
        row = begin + lanes
        mask = (row < end)[:, None] & here[None, :]
        at = row[:, None].to(tl.int64) * dim + column[None, :]
        z = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        given = tl.load(gradient + at, mask=mask, other=0.0).to(tl.float32)
        on = z > 0
        if RELU:
            z = tl.where(z < 0, 0.0, z)
        normal = (z - middle[None, :]) * scale[None, :]
        derivative = given - average[None, :] - normal * product[None, :]
        derivative *= (target_rms * scale)[None, :]
        if squares is not None:
            total += tl.where(mask, derivative * derivative, 0.0)
        if RELU:
            derivative = tl.where(on, derivative, 0.0)
        if repair is not None:
            derivative += tl.load(repair + column, mask=here, other=0.0)[None, :]
        tl.store(target + at, derivative, mask=mask)
    if squares is not None:
        tl.store(squares + part.to(tl.int64) * dim + column, tl.sum(total, 0), mask=here)


def _fake_backward(
    gradient: Tensor,
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    repair: Tensor | None,
    target_rms: float,
    epsilon: float,
    relu: bool,
    squares: bool,
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), mean.new_empty(x.shape[1] if squares else 0)


@operator(
    "batch_norm_backward(Tensor gradient, Tensor x, Tensor mean, Tensor variance, Tensor? repair,"
    " float target_rms, float epsilon, bool relu, bool squares) -> (Tensor, Tensor)",
    fake=_fake_backward,
)
def batch_norm_backward(
    gradient: Tensor,
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    repair: Tensor | None,
    target_rms: float,
    epsilon: float,
    relu: bool,
    squares: bool,
) -> tuple[Tensor, Tensor]:
    """The derivative with respect to `x` `(rows, dim)`, from that with respect to the result; it
    flows through mean and variance too.

    Args:
        repair: `(dim,)`, is added to it, or None.
        squares: whether the sums over rows of the squared derivative with respect to z are made.

    Returns:
        The derivative `(rows, dim)`, and those sums, `(dim,)` or empty.
    """
    options = (mean, variance, repair, target_rms, epsilon, relu, squares)
    target, powers = _fake_backward(gradient, x, *options)
    if target.numel() == 0:
        return target, powers.zero_()
    x, gradient = x.contiguous(), gradient.contiguous()
    rows, dim = x.shape
    known = {"mean": mean, "variance": variance, "epsilon": epsilon, "RELU": relu}
    sums = reduced(_gradient_sums, dim, 2, x, gradient=gradient, **known)
    means = _added(sums, rows)
    parts, per_part = split(rows)
    of_parts = means.new_empty((parts, 1, dim)) if squares else None
    _apply_gradient(
        lambda meta: (triton.cdiv(dim, meta["COLUMNS"]), parts),
        like=dim,
        gradient=gradient,
        x=x,
        means=means,
        repair=repair,
        squares=of_parts,
        target=target,
        rows=rows,
        dim=dim,
        per_part=per_part,
        target_rms=target_rms,
        **known,
    )
    return target, powers if of_parts is None else _added(of_parts, 1)[0]


def _added(sums: Tensor, rows: int) -> Tensor:
    """The sums over parts `(parts, kinds, dim)`, divided by `rows`: `(kinds, dim)`."""
    means = torch.empty_like(sums[0])
    columns = means.numel()
    _means(
        lambda meta: (triton.cdiv(columns, meta["COLUMNS"]),),
        sums=sums,
        means=means,
        rows=rows,
        columns=columns,
        parts=len(sums),
        PARTS=MOST_PARTS,
    )
    return means
