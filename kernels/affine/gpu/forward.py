"""The forward kernel of `nnet.kernels.affine.spliced`: a matrix product that gathers its rows.

Rows m = (t, b) of the result are tiled with its columns; the reduction goes over the columns of all
runs of terms, which are read from where they lie. Bias, activation, scales, offsets and bypass are
done on the accumulators.

The two halves of a TDNN-F layer stay two launches. As one they would save writing and reading the
bottleneck: 3 * 160 of 1536 * 2 + 3 * 160 columns, an eighth of the traffic of products that are
bound by arithmetic (290 FLOP a byte in bfloat16). But the second half reads the bottleneck at two
times, whose rows, time-major, are a whole minibatch apart: a program would compute the first half
twice, half as much work again for the layer; and programs that make all columns of 128 rows are too
few for the multiprocessors of a large GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnet.kernels.affine.gpu.terms import (
    SCHEMA,
    SMALL,
    TILES,
    RowLocations,
    activated,
    depth_block,
    flatten,
    joined_terms,
    packed,
    places,
    row_offsets,
    tile,
    tile_fits,
    unflatten,
)
from nnet.kernels.affine.terms import Epilogue, Term
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


def _specimen(name: str, dtype: torch.dtype, precision: str, *, epilogue: bool) -> Specimen:
    """TDNN-F's affine, of rows (t, b) and (t + 3, b); with an epilogue also an i-vector."""
    vector, count = (torch.float32 if dtype == torch.float32 else dtype), 2 if epilogue else 1
    return Specimen(
        name,
        {
            "sources": (dtype,) * count,
            "positions": (None, torch.int64)[:count],
            "time_strides": (160 * 64, 100 * 64)[:count],
            "batch_strides": (160, 100)[:count],
            "shifts": (3 * 64 * 160, 0)[:count],
            "dims": (160, 100)[:count],
            "depths": (320, 100)[:count],
            "scales": (1.0, 1.0)[:count],
            "weight": dtype,
            "weight_stride": 432,
            "bias": vector if epilogue else None,
            "act_scales": vector if epilogue else None,
            "act_offsets": vector if epilogue else None,
            "bypass": (dtype,) if epilogue else (),
            "bypass_positions": (None,) if epilogue else (),
            "bypass_time_strides": (64 * 1536,) if epilogue else (),
            "bypass_batch_strides": (1536,) if epilogue else (),
            "bypass_scales": (0.66,) if epilogue else (),
            "y": dtype,
            "rows": 9600,
            "batch": 64,
            "dim": 1536,
            "LINEAR": (True, False)[:count],
            "BYPASS_LINEAR": (True,) if epilogue else (),
            "LAYOUT": (160, -1)[:count] if epilogue else (0,),
            "SCALED": False,
            "ACTIVATION": "relu" if epilogue else "",
            "PRECISION": precision,
            "DEPTH": depth_block(dtype),
        },
    )


SPECIMENS = [
    _specimen("fp32", torch.float32, "tf32x3", epilogue=False),
    _specimen("tf32", torch.float32, "tf32", epilogue=False),
    _specimen("bf16 epilogue", torch.bfloat16, "tf32", epilogue=True),
]


@kernel(configurations=TILES, interpreted=SMALL, specimens=SPECIMENS, fits=tile_fits)
def _forward(
    sources,
    positions,
    time_strides,
    batch_strides,
    shifts,
    dims,
    depths,
    scales,
    weight,
    weight_stride,
    bias,
    act_scales,
    act_offsets,
    bypass,
    bypass_positions,
    bypass_time_strides,
    bypass_batch_strides,
    bypass_scales,
    y,
    rows,
    batch,
    dim,
    LINEAR: tl.constexpr,
    BYPASS_LINEAR: tl.constexpr,
    LAYOUT: tl.constexpr,
    SCALED: tl.constexpr,
    ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One tile (ROWS, COLUMNS) of y = epilogue(sum_i scale_i x_i W_i^T + bias); rows m = (t, b),
    `sources` (rows, dims), `weight` (dim, sum of depths)."""
    down, across = tile(tl.cdiv(rows, ROWS), tl.cdiv(dim, COLUMNS), 8)
    m = down * ROWS + tl.arange(0, ROWS)
    n = across * COLUMNS + tl.arange(0, COLUMNS)
    lanes = tl.arange(0, DEPTH)
    safe_m = tl.where(m < rows, m, 0)  # what overruns reads another row, and is not stored
    columns = weight + tl.where(n < dim, n, 0)[None, :].to(tl.int64) * weight_stride  # [1, COLUMNS]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for i in tl.static_range(len(sources)):
        begin = row_offsets(
            safe_m, batch, positions[i], time_strides[i], batch_strides[i], LINEAR[i]
        )
        x_rows = sources[i] + begin[:, None]  # [ROWS, 1]
        if SCALED:
            total *= 1.0 / scales[i]
        for k in range(0, depths[i], DEPTH):
            depth = k + lanes
            if LAYOUT[i] == 0:  # whole blocks, each in one term
                at = k // dims[i]
                x = tl.load(x_rows + (at * shifts[i] + (k - at * dims[i]) + lanes)[None, :])
                w = tl.load(columns + depth[:, None])
            else:
                inside = depth < depths[i]
                several = depth // LAYOUT[i] * shifts[i] + depth % LAYOUT[i]
                at = several if LAYOUT[i] > 0 else depth
                x = tl.load(x_rows + at[None, :], mask=inside[None, :], other=0.0)
                w = tl.load(columns + depth[:, None], mask=inside[:, None], other=0.0)
            total = dot(x, w, total, PRECISION)
        if SCALED:
            total *= scales[i]
        columns += depths[i]
    here = n < dim
    inside = (m < rows)[:, None] & here[None, :]
    if bias is not None:
        total += tl.load(bias + n, mask=here, other=0.0).to(tl.float32)[None, :]
    total = activated(total, ACTIVATION)
    if act_scales is not None:
        total *= tl.load(act_scales + n, mask=here, other=0.0).to(tl.float32)[None, :]
    if act_offsets is not None:
        total += tl.load(act_offsets + n, mask=here, other=0.0).to(tl.float32)[None, :]
    for i in tl.static_range(len(bypass)):
        begin = row_offsets(
            safe_m,
            batch,
            bypass_positions[i],
            bypass_time_strides[i],
            bypass_batch_strides[i],
            BYPASS_LINEAR[i],
        )
        other = tl.load(bypass[i] + begin[:, None] + n[None, :], mask=inside, other=0.0)
        total += bypass_scales[i] * other.to(tl.float32)
    tl.store(y + m[:, None].to(tl.int64) * dim + n[None, :], total, mask=inside)


def forward(
    sources: Sequence[Tensor],
    terms: Sequence[Term],
    weight: Tensor,
    bias: Tensor | None,
    epilogue: Epilogue,
) -> Tensor:
    """y = epilogue(W [x_1, x_2, ...] + bias), by one launch and without a derivative:
    `nnet.kernels.affine.spliced.spliced_affine` on a GPU.

    Args:
        sources: `(stored times, batch, columns)` each.
        terms: the rows x_i; their `dim` together are the columns of `weight`.
        weight: `(dim, columns)`.
        bias: `(dim,)` or None.

    Returns:
        `(length, batch, dim)`.
    """
    positions, numbers, scales = flatten((*terms, *epilogue.bypass))
    result: Tensor = spliced_affine(
        list(sources),
        positions,
        numbers,
        scales,
        len(terms),
        weight,
        bias,
        epilogue.activation,
        epilogue.scales,
        epilogue.offsets,
    )
    return result


def _fake(
    sources: Sequence[Tensor],
    positions: Sequence[Tensor | None],
    numbers: Sequence[int],
    scales: Sequence[float],
    spliced: int,
    weight: Tensor,
    *epilogue: object,
) -> Tensor:
    length = max(numbers[3 : 6 * spliced : 6])
    return weight.new_empty((length, sources[0].shape[1], weight.shape[0]))


@operator(
    f"spliced_affine({SCHEMA}, int spliced, Tensor weight, Tensor? bias, str activation,"
    " Tensor? act_scales, Tensor? act_offsets) -> Tensor",
    fake=_fake,
)
def spliced_affine(
    sources: Sequence[Tensor],
    positions: Sequence[Tensor | None],
    numbers: Sequence[int],
    scales: Sequence[float],
    spliced: int,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    act_scales: Tensor | None,
    act_offsets: Tensor | None,
) -> Tensor:
    """The operator behind `forward`: the first `spliced` terms are multiplied with the weight
    `(dim, columns)`, the others are the bypass, which is added to the result `(length, batch,
    dim)`."""
    y = _fake(sources, positions, numbers, scales, spliced, weight)
    if y.numel() == 0:
        return y
    sources = [packed(source) for source in sources]
    terms = unflatten(positions, numbers, scales)
    joined = joined_terms(terms[:spliced])
    firsts = [run.term for run in joined]
    read = places(sources, firsts)
    beside = places(sources, terms[spliced:])
    rows, dim = y.shape[0] * y.shape[1], y.shape[2]
    depths = tuple(run.depth for run in joined)
    _forward(
        lambda meta: (triton.cdiv(rows, meta["ROWS"]) * triton.cdiv(dim, meta["COLUMNS"]),),
        like=(bucket(rows), dim, depths, y.dtype),
        **_read(read),
        shifts=tuple(r.shift * sources[r.term.source].stride(0) for r in joined),
        dims=tuple(term.dim for term in firsts),
        depths=depths,
        scales=tuple(term.scale for term in firsts),
        weight=packed(weight),
        weight_stride=packed(weight).stride(0),
        bias=bias,
        act_scales=act_scales,
        act_offsets=act_offsets,
        **{f"bypass_{k}" if k != "sources" else "bypass": v for k, v in _read(beside).items()},
        bypass_scales=tuple(term.scale for term in terms[spliced:]),
        y=y,
        rows=rows,
        batch=y.shape[1],
        dim=dim,
        LINEAR=read.linear,
        BYPASS_LINEAR=beside.linear,
        LAYOUT=tuple(_layout(run.terms, run.term.dim, depth_block(y.dtype)) for run in joined),
        SCALED=any(term.scale != 1.0 for term in firsts),
        ACTIVATION=activation,
        PRECISION=input_precision(y.dtype),
        DEPTH=depth_block(y.dtype),
    )
    return y


def _layout(count: int, dim: int, block: int) -> int:
    """How a run's columns are read: 0 in whole blocks, each of one term and with no mask; -1 with a
    mask, of a single term; or by terms of so many columns."""
    if dim % block == 0:
        return 0
    return -1 if count == 1 else dim


def _read(read: RowLocations) -> dict[str, tuple[object, ...]]:
    return {
        "sources": read.tensors,
        "positions": read.positions,
        "time_strides": read.time_strides,
        "batch_strides": read.batch_strides,
    }
