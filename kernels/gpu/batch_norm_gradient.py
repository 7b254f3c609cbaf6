"""The gradient of `nnet.kernels.batch_norm`: sums over columns first, then the result."""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.gpu.batch_norm import (
    ADDING,
    MOST_PARTS,
    SMALL,
    TILES,
    reduced,
    specimens,
    tiles,
)
from nnet.kernels.gpu.support import Specimen, kernel, operator, tl, triton


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
    """Of each part: sums of the gradient, and of its products with the normalised z."""
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
    made = sums + part.to(tl.int64) * 2 * dim + column
    tl.store(made, tl.sum(total, 0), mask=here)
    tl.store(made + dim, tl.sum(products, 0), mask=here)


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
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    part = tl.arange(0, PARTS)
    mask = (part < parts)[:, None] & (column < columns)[None, :]
    found = tl.load(sums + part[:, None] * columns + column[None, :], mask=mask, other=0.0)
    tl.store(means + column, tl.sum(found, 0) / rows, mask=column < columns)


@kernel(
    configurations=TILES,
    interpreted=SMALL,
    specimens=specimens(
        gradient="like_x",
        x="like_x",
        mean=torch.float32,
        variance=torch.float32,
        means=torch.float32,
        target="like_x",
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
    target,
    rows,
    dim,
    target_rms,
    epsilon,
    RELU: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    here = column < dim
    scale = tl.rsqrt(tl.load(variance + column, mask=here, other=1.0) + epsilon)
    middle = tl.load(mean + column, mask=here, other=0.0)
    average = tl.load(means + column, mask=here, other=0.0)
    product = tl.load(means + dim + column, mask=here, other=0.0)
    mask = (row < rows)[:, None] & here[None, :]
    at = row[:, None].to(tl.int64) * dim + column[None, :]
    z = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    given = tl.load(gradient + at, mask=mask, other=0.0).to(tl.float32)
    on = z > 0
    if RELU:
        z = tl.where(z < 0, 0.0, z)
    normal = (z - middle[None, :]) * scale[None, :]
    found = (given - average[None, :] - normal * product[None, :]) * (target_rms * scale)[None, :]
    if RELU:
        found = tl.where(on, found, 0.0)
    tl.store(target + at, found, mask=mask)


def _fake_backward(gradient: Tensor, x: Tensor, *others: object) -> Tensor:
    return x.new_empty(x.shape)


@operator(
    "batch_norm_backward(Tensor gradient, Tensor x, Tensor mean, Tensor variance,"
    " float target_rms, float epsilon, bool relu) -> Tensor",
    fake=_fake_backward,
)
def backward(
    gradient: Tensor,
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    target_rms: float,
    epsilon: float,
    relu: bool,
) -> Tensor:
    """The gradient for `x`, given that for the result; through mean and variance too."""
    target = _fake_backward(gradient, x)
    if target.numel() == 0:
        return target
    x, gradient = x.contiguous(), gradient.contiguous()
    rows, dim = x.shape
    known = {"mean": mean, "variance": variance, "epsilon": epsilon, "RELU": relu}
    sums = reduced(_gradient_sums, dim, rows, dim, x, gradient=gradient, **known)
    means = torch.empty_like(sums[0])
    _means(
        lambda meta: (triton.cdiv(2 * dim, meta["COLUMNS"]),),
        sums=sums,
        means=means,
        rows=rows,
        columns=2 * dim,
        parts=len(sums),
        PARTS=MOST_PARTS,
    )
    _apply_gradient(
        tiles(rows, dim),
        like=dim,
        gradient=gradient,
        x=x,
        means=means,
        target=target,
        rows=rows,
        dim=dim,
        target_rms=target_rms,
        **known,
    )
    return target
