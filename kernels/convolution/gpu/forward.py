"""The forward kernel of `nnet.kernels.convolution.reference`: a product that gathers its rows.

Output pixels m = (t, b, h) are tiled with filters. The reduction walks over the window's rows; the
pixels of a row that a filter covers lie side by side, so that they are one stretch of columns.
The derivative with respect to the image is such a convolution too: see `image_gradients`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nnet.kernels.affine.gpu.terms import SMALL, activated, depth_block, tile, tile_fits
from nnet.kernels.convolution.geometry import Image, Taps
from nnet.kernels.convolution.gpu.taps import (
    SCHEMA,
    FlatGeometry,
    Walk,
    gathered,
    rows_of_pixels,
    table,
    walk,
)
from nnet.kernels.gpu import (
    Configuration,
    Specimen,
    bucket,
    dot,
    input_precision,
    kernel,
    operator,
    tl,
    triton,
)
from nnet.kernels.windows.windows import Windows, resident

TILES = (
    Configuration({"ROWS": 128, "COLUMNS": 64}, warps=4, stages=4),  # 48 and 64 filters
    Configuration({"ROWS": 256, "COLUMNS": 64}, warps=8, stages=3),  # the same, many pixels
    Configuration({"ROWS": 128, "COLUMNS": 128}, warps=8, stages=3),  # 128 filters
    Configuration({"ROWS": 64, "COLUMNS": 64}, warps=4, stages=4),  # few pixels; float32 on sm_80
)


def _specimen(name: str, dtype: torch.dtype, precision: str, channels: int) -> Specimen:
    """3 x 3 filters over 40 pixels, as in the first layers of a CNN-TDNN-F."""
    run = 3 * channels
    return Specimen(
        name,
        {
            "x": dtype,
            "time_stride": 64 * 40 * channels,
            "batch_stride": 40 * channels,
            "filters": dtype,
            "bias": dtype,
            "act_scales": None,
            "act_offsets": dtype,
            "y": dtype,
            "y_time_stride": 64 * 40 * 48,
            "y_batch_stride": 40 * 48,
            "y_height_stride": 48,
            "index": None,
            "table": None,
            "stretches": 3,
            "window": 3,
            "first": 0,
            "step": 1,
            "shift": 1,
            "stored": 152,
            "height_first": -1,
            "height_step": 1,
            "channels": channels,
            "columns": 40 * channels,
            "run": run,
            "rows": 150 * 64 * 40,
            "batch": 64,
            "heights": 40,
            "dim": 48,
            "ACTIVATION": "relu",
            "NARROW": run if run % column_depth(run, dtype) else 0,
            "DEPTH": column_depth(run, dtype),
            "PRECISION": precision,
        },
    )


def column_depth(run: int, dtype: torch.dtype) -> int:
    """How many columns are multiplied at a time: no more than divide a stretch, so that each block
    lies in one; if those are too few, blocks lie across."""
    most = depth_block(dtype)
    while run % most and most > 16:
        most //= 2
    return depth_block(dtype) if run % most else most


def _fits(choice: Configuration, arguments: Mapping[str, Any], architecture: int) -> bool:
    """Narrow images leave few registers: each column has its own row."""
    narrow = arguments["NARROW"] > 0
    return tile_fits(choice, arguments, architecture) and not (
        narrow and choice.constants != {"ROWS": 64, "COLUMNS": 64}
    )


@kernel(
    configurations=TILES,
    interpreted=SMALL,
    specimens=[
        _specimen("fp32", torch.float32, "tf32x3", 48),
        _specimen("bf16", torch.bfloat16, "tf32", 64),
        _specimen("bf16 narrow", torch.bfloat16, "tf32", 6),
    ],
    fits=_fits,
)
def _forward(
    x,
    time_stride,
    batch_stride,
    filters,
    bias,
    act_scales,
    act_offsets,
    y,
    y_time_stride,
    y_batch_stride,
    y_height_stride,
    index,
    table,
    stretches,
    window,
    first,
    step,
    shift,
    stored,
    height_first,
    height_step,
    channels,
    columns,
    run,
    rows,
    batch,
    heights,
    dim,
    ACTIVATION: tl.constexpr,
    NARROW: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One tile of output pixels m = (t, b, h) and filters n: y[m, n] = f(sum_k x[pixel k of m]
    filters[n, k] + bias[n]), k over offsets and channels in the order of the walk."""
    down, across = tile(tl.cdiv(rows, ROWS), tl.cdiv(dim, COLUMNS), 8)
    m = down * ROWS + tl.arange(0, ROWS)
    n = across * COLUMNS + tl.arange(0, COLUMNS)
    time, entry, height = rows_of_pixels(tl.where(m < rows, m, 0), heights, batch)
    depth = stretches * run
    begin = filters + tl.where(n < dim, n, 0)[None, :].to(tl.int64) * depth  # [1, COLUMNS]
    x_rows = x + (entry.to(tl.int64) * batch_stride)[:, None]
    lanes = tl.arange(0, DEPTH)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for k in range(0, depth, DEPTH):
        if NARROW > 0:  # blocks lie across stretches: a stretch for each column [1, DEPTH]
            stretch = ((k + lanes) // NARROW)[None, :]
            inside = ((k + lanes) % NARROW)[None, :]
        else:
            stretch = k // run
            inside = (k - stretch * run + lanes)[None, :]
        row, column, there = gathered(
            time[:, None],
            height[:, None],
            stretch,
            inside,
            index,
            table,
            stretches,
            window,
            first,
            step,
            shift,
            stored,
            height_first,
            height_step,
            channels,
            columns,
        )
        at = x_rows + row.to(tl.int64) * time_stride + column  # [ROWS, DEPTH]
        if NARROW > 0:
            few = k + lanes < depth
            a = tl.load(at, mask=there & few[None, :], other=0.0)
            w = tl.load(begin + (k + lanes)[:, None], mask=few[:, None], other=0.0)
        else:
            a = tl.load(at, mask=there, other=0.0)
            w = tl.load(begin + (k + lanes)[:, None])  # [DEPTH, COLUMNS]
        total = dot(a, w, total, PRECISION)
    if bias is not None:
        total += tl.load(bias + n, mask=n < dim, other=0.0).to(tl.float32)[None, :]
    total = activated(total, ACTIVATION)
    mask = (m < rows)[:, None] & (n < dim)[None, :]
    column = (height * dim)[:, None] + n[None, :]
    if act_scales is not None:
        total *= tl.load(act_scales + column, mask=mask, other=0.0).to(tl.float32)
    if act_offsets is not None:
        total += tl.load(act_offsets + column, mask=mask, other=0.0).to(tl.float32)
    row_at = time.to(tl.int64) * y_time_stride + entry * y_batch_stride + height * y_height_stride
    tl.store(y + row_at[:, None] + n[None, :], total, mask=mask)


class Ending(NamedTuple):
    """What follows the convolution: an activation, then scales and offsets by column of a row."""

    activation: str = ""
    scales: Tensor | None = None
    offsets: Tensor | None = None


def flatten(image: Image, taps: Taps, windows: Windows) -> FlatGeometry:
    """The geometry as lists of numbers, in the order of the operators' schema."""
    offsets = [number for offset in taps.offsets for number in offset]
    return (
        list(image),
        offsets,
        [windows.count, windows.first, windows.step, windows.shift],
        windows.index,
    )


def unflatten(
    image: Sequence[int], offsets: Sequence[int], windows: Sequence[int], index: Tensor | None
) -> tuple[Image, Taps, Windows]:
    """The geometry from the lists that `flatten` made of it."""
    pairs = tuple(zip(offsets[::2], offsets[1::2], strict=True))
    count, first, step, shift = windows
    return Image(*image), Taps(pairs), Windows(count, first, step, shift, index)


class Target(NamedTuple):
    """Where output pixels (t, b, h) are written: a tensor and its strides in elements."""

    tensor: Tensor
    time: int
    batch: int
    height: int


def convolve(
    x: Tensor,
    filters: Tensor,
    bias: Tensor | None,
    image: Image,
    path: Walk,
    windows: Windows,
    target: Target,
    ending: Ending,
) -> None:
    """Launches the convolution of rows `x` `(stored times, batch, height * channels)` into
    `target`.

    Args:
        filters: (filters, columns in the order of the walk), contiguous.
    """
    run = path.pixels * image.channels
    depth = column_depth(run, x.dtype)
    dim = filters.shape[0]
    rows = windows.count * x.shape[1] * image.height_out
    index = None if windows.index is None else resident(windows.index, x.device)
    _forward(
        lambda meta: (triton.cdiv(rows, meta["ROWS"]) * triton.cdiv(dim, meta["COLUMNS"]),),
        like=(bucket(rows), dim, run, len(path.numbers), index is None, x.dtype),
        x=x,
        time_stride=x.stride(0),
        batch_stride=x.stride(1),
        filters=filters,
        bias=bias,
        act_scales=ending.scales,
        act_offsets=ending.offsets,
        y=target.tensor,
        y_time_stride=target.time,
        y_batch_stride=target.batch,
        y_height_stride=target.height,
        index=index,
        table=table(path, x.device),
        stretches=len(path.numbers),
        window=0 if index is None else index.shape[1],
        first=windows.first,
        step=windows.step,
        shift=windows.shift,
        stored=x.shape[0],
        height_first=path.heights[0],
        height_step=image.height_step,
        channels=image.channels,
        columns=image.height_in * image.channels,
        run=run,
        rows=rows,
        batch=x.shape[1],
        heights=image.height_out,
        dim=dim,
        ACTIVATION=ending.activation,
        NARROW=run if run % depth else 0,
        DEPTH=depth,
        PRECISION=input_precision(x.dtype),
    )


def forward(
    x: Tensor,
    filters: Tensor,
    bias: Tensor | None,
    image: Image,
    taps: Taps,
    windows: Windows,
    *ending: Any,
) -> Tensor:
    """A convolution over time and height by one launch, without a derivative:
    `nnet.kernels.convolution.reference.image_convolution` on a GPU.

    Args:
        x: `(stored times, batch, height_in * channels)`.
        filters: `(filters, offsets * channels)`.
        bias: `(filters,)` or None.
        ending: activation, scales and offsets, as `Ending` has them.

    Returns:
        `(windows.count, batch, height_out * filters)`.
    """
    geometry = flatten(image, taps, windows)
    result: Tensor = image_convolution(x, filters, bias, *Ending(*ending), *geometry)
    return result


def _fake(
    x: Tensor,
    filters: Tensor,
    bias: Tensor | None,
    activation: str,
    act_scales: Tensor | None,
    act_offsets: Tensor | None,
    image: Sequence[int],
    offsets: Sequence[int],
    windows: Sequence[int],
    index: Tensor | None,
) -> Tensor:
    return x.new_empty((windows[0], x.shape[1], image[2] * filters.shape[0]))


@operator(
    "image_convolution(Tensor x, Tensor filters, Tensor? bias, str activation,"
    f" Tensor? act_scales, Tensor? act_offsets, {SCHEMA}) -> Tensor",
    fake=_fake,
)
def image_convolution(
    x: Tensor,
    filters: Tensor,
    bias: Tensor | None,
    activation: str,
    act_scales: Tensor | None,
    act_offsets: Tensor | None,
    image: Sequence[int],
    offsets: Sequence[int],
    windows: Sequence[int],
    index: Tensor | None,
) -> Tensor:
    """The operator behind `forward`: makes room for the result `(windows.count, batch, height_out *
    filters)` and fills it in by one launch."""
    shape, taps, read = unflatten(image, offsets, windows, index)
    y = x.new_empty((read.count, x.shape[1], shape.height_out * len(filters)))
    if y.numel():
        target = Target(y, y.stride(0), y.stride(1), len(filters))
        ending = Ending(activation, act_scales, act_offsets)
        x = x if x.stride(-1) == 1 else x.contiguous()
        path = walk(taps.offsets)
        convolve(x, filters.contiguous(), bias, shape, path, read, target, ending)
    return y
