"""The gradient of `nnet.kernels.affine.spliced` for its weight, a product that gathers its rows.

Rows are split among programs, whose parts are then added in order, so that results repeat.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnet.kernels.affine.gpu.terms import (
    SCHEMA,
    SMALL,
    TILES,
    JoinedTerms,
    depth_block,
    flatten,
    joined_terms,
    packed,
    places,
    row_offsets,
    row_parts,
    tile,
    tile_fits,
    unflatten,
)
from nnet.kernels.affine.terms import Term
from nnet.kernels.gpu import (
    Specimen,
    bucket,
    dot,
    input_precision,
    kernel,
    operator,
    tl,
    triton,
)


def _weight_specimen(name: str, dtype: torch.dtype, precision: str) -> Specimen:
    """The affine transform of a TDNN-F, spliced of two times."""
    return Specimen(
        name,
        {
            "gradient": dtype,
            "source": dtype,
            "positions": None,
            "time_stride": 160 * 64,
            "batch_stride": 160,
            "shift": 3 * 64 * 160,
            "term_dim": 160,
            "target": torch.float32,
            "part_stride": 1536 * 320,
            "target_stride": 320,
            "scale": 1.0,
            "rows": 9600,
            "batch": 64,
            "dim": 1536,
            "depth": 320,
            "per_part": 1216,
            "LINEAR": True,
            "PRECISION": precision,
            "DEPTH": depth_block(dtype),
        },
    )


@kernel(
    configurations=TILES,
    interpreted=SMALL,
    specimens=[
        _weight_specimen("fp32", torch.float32, "tf32x3"),
        _weight_specimen("bf16", torch.bfloat16, "tf32"),
    ],
    fits=tile_fits,
)
def _weight_gradient(
    gradient,
    source,
    positions,
    time_stride,
    batch_stride,
    shift,
    term_dim,
    target,
    part_stride,
    target_stride,
    scale,
    rows,
    batch,
    dim,
    depth,
    per_part,
    LINEAR: tl.constexpr,
    PRECISION: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One tile (ROWS, COLUMNS) of d^T x, (dim, depth), over rows `part * per_part` and so on: for
    one run of terms the part of the derivative with respect to the weight."""
    down, across = tile(tl.cdiv(dim, ROWS), tl.cdiv(depth, COLUMNS), 8)
    part = tl.program_id(1)
    n = down * ROWS + tl.arange(0, ROWS)
    k = across * COLUMNS + tl.arange(0, COLUMNS)
    g_columns = gradient + n[None, :]  # [1, ROWS]
    x_columns = source + (k // term_dim * shift + k % term_dim)[None, :]  # [1, COLUMNS]
    lanes = tl.arange(0, DEPTH)
    first = part * per_part
    end = tl.minimum(first + per_part, rows)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for begin in range(first, end, DEPTH):
        m = begin + lanes
        inside = m < end
        safe_m = tl.where(inside, m, first)  # positions may not be read beyond their end
        at = row_offsets(safe_m, batch, positions, time_stride, batch_stride, LINEAR)
        mask = inside[:, None] & (n < dim)[None, :]
        g = tl.load(g_columns + safe_m[:, None].to(tl.int64) * dim, mask=mask, other=0.0)
        mask = inside[:, None] & (k < depth)[None, :]
        x = tl.load(x_columns + at[:, None], mask=mask, other=0.0)  # [DEPTH, COLUMNS]
        total = dot(tl.trans(g), x, total, PRECISION)
    inside = (n < dim)[:, None] & (k < depth)[None, :]
    part_at = target + part.to(tl.int64) * part_stride
    tl.store(part_at + n[:, None] * target_stride + k[None, :], total * scale, mask=inside)


def weight_gradient(sources: Sequence[Tensor], terms: Sequence[Term], gradient: Tensor) -> Tensor:
    """The derivative with respect to the weight, `(dim, columns)`: d^T [x_1, x_2, ...].

    Args:
        sources: `(stored times, batch, columns)` each.
        terms: the rows x_i, whose scales are part of them.
        gradient: the derivative d with respect to the result, `(length, batch, dim)`.
    """
    gradient_of_weight: Tensor = spliced_affine_weight(list(sources), *flatten(terms), gradient)
    return gradient_of_weight


def _fake_weight(
    sources: Sequence[Tensor],
    positions: Sequence[Tensor | None],
    numbers: Sequence[int],
    scales: Sequence[float],
    gradient: Tensor,
) -> Tensor:
    return gradient.new_empty((gradient.shape[-1], sum(numbers[5::6])))


@operator(
    f"spliced_affine_weight({SCHEMA}, Tensor gradient) -> Tensor",
    fake=_fake_weight,
)
def spliced_affine_weight(
    sources: Sequence[Tensor],
    positions: Sequence[Tensor | None],
    numbers: Sequence[int],
    scales: Sequence[float],
    gradient: Tensor,
) -> Tensor:
    """The operator behind `weight_gradient`: one launch for each run of terms that can be joined.
    Each makes partial sums over some of the rows, which are then added up in order, so that results
    repeat."""
    result = _fake_weight(sources, positions, numbers, scales, gradient)
    dim, width = result.shape
    rows = gradient.shape[0] * gradient.shape[1]
    if result.numel() == 0 or rows == 0:
        return result.zero_()
    gradient = gradient.contiguous()
    sources = [packed(source) for source in sources]
    parts = row_parts(dim, width, rows, gradient)
    target = result if parts == 1 else gradient.new_empty((parts, dim, width), dtype=torch.float32)
    column = 0
    for run in joined_terms(unflatten(positions, numbers, scales)):
        _launch(sources, run, gradient, target[..., column:], parts)
        column += run.depth
    return result if parts == 1 else target.sum(dim=0).to(result.dtype)


def _launch(
    sources: Sequence[Tensor], run: JoinedTerms, gradient: Tensor, target: Tensor, parts: int
) -> None:
    """Writes a run's columns of every part."""
    length, batch, dim = gradient.shape
    rows, depth = length * batch, run.depth
    read = places(sources, [run.term])
    _weight_gradient(
        lambda meta: (triton.cdiv(dim, meta["ROWS"]) * triton.cdiv(depth, meta["COLUMNS"]), parts),
        like=(bucket(rows), dim, depth, parts, gradient.dtype),
        gradient=gradient,
        source=read.tensors[0],
        positions=read.positions[0],
        time_stride=read.time_strides[0],
        batch_stride=read.batch_strides[0],
        shift=run.shift * sources[run.term.source].stride(0),
        term_dim=run.term.dim,
        target=target,
        part_stride=target.stride(0) if parts > 1 else 0,
        target_stride=target.stride(-2),
        scale=float(run.term.scale),
        rows=rows,
        batch=batch,
        dim=dim,
        depth=depth,
        per_part=triton.cdiv(rows, parts),
        LINEAR=read.linear[0],
        PRECISION=input_precision(gradient.dtype),
        DEPTH=depth_block(gradient.dtype),
    )
