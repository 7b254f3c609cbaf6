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
    Run,
    depth_block,
    flatten,
    packed,
    places,
    row_offsets,
    row_parts,
    runs,
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
    """TDNN-F's affine."""
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
        safe_m = tl.where(inside, m, first)
        at = row_offsets(safe_m, batch, positions, time_stride, batch_stride, LINEAR)
        mask = inside[:, None] & (n < dim)[None, :]
        g = tl.load(g_columns + safe_m[:, None].to(tl.int64) * dim, mask=mask, other=0.0)
        mask = inside[:, None] & (k < depth)[None, :]
        x = tl.load(x_columns + at[:, None], mask=mask, other=0.0)  # [DEPTH, COLUMNS]
        total = dot(tl.trans(g), x, total, PRECISION)
    inside = (n < dim)[:, None] & (k < depth)[None, :]
    made = target + part.to(tl.int64) * part_stride
    tl.store(made + n[:, None] * target_stride + k[None, :], total * scale, mask=inside)


def weight_gradient(sources: Sequence[Tensor], terms: Sequence[Term], gradient: Tensor) -> Tensor:
    """The gradient for the weight, `(dim, columns)`; arguments as for `spliced_affine`."""
    made: Tensor = spliced_affine_weight(list(sources), *flatten(terms), gradient)
    return made


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
    """Run by run, in parts by rows, which are added up in order."""
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
    for run in runs(unflatten(positions, numbers, scales)):
        _launch(sources, run, gradient, target[..., column:], parts)
        column += run.depth
    return result if parts == 1 else target.sum(dim=0).to(result.dtype)


def _launch(
    sources: Sequence[Tensor], run: Run, gradient: Tensor, target: Tensor, parts: int
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
