"""The gradients of `nnet.kernels.convolution.reference`.

For the image: a convolution of the result's gradient, where every output pixel collects from those
that read it; with a step in height one for each remainder of the height. For the filters: products
of rows, split among programs, whose parts are then added in order. Results repeat either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from nnet.kernels.affine.gpu.terms import SMALL, depth_block, row_parts, tile, tile_fits
from nnet.kernels.convolution.geometry import Image, Taps
from nnet.kernels.convolution.gpu.forward import (
    Ending,
    Target,
    convolve,
    flatten,
    unflatten,
)
from nnet.kernels.convolution.gpu.taps import SCHEMA, gathered, rows_of_pixels, table, walk
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
from nnet.kernels.windows.windows import Windows, inverse, resident


def source_gradient(
    gradient: Tensor, filters: Tensor, stored: int, image: Image, taps: Taps, windows: Windows
) -> Tensor:
    """The derivative with respect to the rows that a convolution read, `(stored, batch, columns)`.

    Args:
        gradient: the derivative with respect to its result, `(windows.count, batch, height_out *
            filters)`.
        filters: `(filters, offsets * channels)`.
    """
    geometry = flatten(image, taps, windows)
    of_source: Tensor = image_convolution_source(gradient, filters, stored, *geometry)
    return of_source


def _fake_source(
    gradient: Tensor, filters: Tensor, stored: int, image: Sequence[int], *others: object
) -> Tensor:
    return gradient.new_empty((stored, gradient.shape[1], image[0] * image[1]))


@operator(
    f"image_convolution_source(Tensor gradient, Tensor filters, int stored, {SCHEMA}) -> Tensor",
    fake=_fake_source,
)
def image_convolution_source(
    gradient: Tensor,
    filters: Tensor,
    stored: int,
    image: Sequence[int],
    offsets: Sequence[int],
    windows: Sequence[int],
    index: Tensor | None,
) -> Tensor:
    """The operator behind `source_gradient`: a convolution of the derivative, by one launch for
    each remainder of the input height modulo `height_step`, since pixels with different remainders
    are read under different offsets."""
    result = _fake_source(gradient, filters, stored, image)
    shape, taps, forward = unflatten(image, offsets, windows, index)
    if result.numel() == 0 or gradient.numel() == 0:
        return result.zero_()
    gradient = gradient.contiguous()
    backward = _readers(forward, taps.window, stored)
    blocks = filters.unflatten(1, (-1, shape.channels))
    for remainder in range(min(shape.height_step, shape.height_in)):
        _collect(gradient, blocks, result, shape, taps, backward, remainder)
    return result


def _collect(
    gradient: Tensor,
    blocks: Tensor,
    result: Tensor,
    image: Image,
    taps: Taps,
    windows: Windows,
    remainder: int,
) -> None:
    """Writes the pixels `remainder`, `remainder + height_step`, ... of the image's gradient.

    Args:
        blocks: the filters (filters, offsets, channels).
        windows: the output times that read each stored row.
    """
    step = image.height_step
    readers = sorted(
        (number, (remainder - height) // step, block)
        for block, (number, height) in enumerate(taps.offsets)
        if (remainder - height) % step == 0
    )
    pixels = result.unflatten(-1, (image.height_in, image.channels))[:, :, remainder::step]
    if not readers:
        pixels.zero_()
        return
    order = [block for _, _, block in readers]
    transposed = blocks[:, order].permute(2, 1, 0).flatten(1).contiguous()
    convolve(
        gradient,
        transposed,
        None,
        Image(len(blocks), image.height_out, pixels.shape[2], 1),
        walk([(number, height) for number, height, _ in readers]),
        windows,
        Target(pixels, pixels.stride(0), pixels.stride(1), pixels.stride(2)),
        Ending(),
    )


def _readers(windows: Windows, window: int, stored: int) -> Windows:
    """Which output time reads a stored row as number n of its window, for each row and n."""
    if windows.index is not None:
        readers = _INVERSES.get(windows.index)
        if readers is None or readers.shape != (stored, window):
            readers = _INVERSES[windows.index] = inverse(windows.index[:, :window], stored)
        return Windows(stored, index=readers)
    if windows.step == 1:
        return Windows(stored, -windows.first, 1, -windows.shift)
    regular = (windows.count, windows.first, windows.step, windows.shift)
    return Windows(stored, index=_regular_inverse(*regular, window, stored))


_INVERSES: WeakIdKeyDictionary = WeakIdKeyDictionary()


@lru_cache(maxsize=256)
def _regular_inverse(
    count: int, first: int, step: int, shift: int, window: int, stored: int
) -> Tensor:
    index = first + step * torch.arange(count)[:, None] + shift * torch.arange(window)
    return inverse(torch.where(index < stored, index, -1), stored)


TILES = (
    Configuration({"ROWS": 64, "COLUMNS": 128}, warps=4, stages=3),  # up to 64 filters
    Configuration({"ROWS": 128, "COLUMNS": 128}, warps=8, stages=3),  # more
    Configuration({"ROWS": 64, "COLUMNS": 64}, warps=4, stages=3),  # float32 on sm_80
)


def _specimen(name: str, dtype: torch.dtype, precision: str, channels: int) -> Specimen:
    return Specimen(
        name,
        {
            "gradient": dtype,
            "x": dtype,
            "time_stride": 64 * 40 * channels,
            "batch_stride": 40 * channels,
            "target": torch.float32,
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
            "run": 3 * channels,
            "rows": 150 * 64 * 40,
            "batch": 64,
            "heights": 40,
            "dim": 48,
            "per_part": 4096,
            "PRECISION": precision,
            "DEPTH": depth_block(dtype),
        },
    )


@kernel(
    configurations=TILES,
    interpreted=SMALL,
    specimens=[
        _specimen("fp32", torch.float32, "tf32x3", 48),
        _specimen("bf16", torch.bfloat16, "tf32", 64),
    ],
    fits=tile_fits,
)
def _filter_gradient(
    gradient,
    x,
    time_stride,
    batch_stride,
    target,
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
    per_part,
    PRECISION: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One tile of d^T x, (dim, depth), over pixels `part * per_part` and so on: a part of the
    derivative with respect to the filters, whose columns are in the order of the walk."""
    depth = stretches * run
    down, across = tile(tl.cdiv(dim, ROWS), tl.cdiv(depth, COLUMNS), 8)
    part = tl.program_id(1)
    n = down * ROWS + tl.arange(0, ROWS)
    k = across * COLUMNS + tl.arange(0, COLUMNS)
    stretch = (k // run)[None, :]
    inside = (k % run)[None, :]
    lanes = tl.arange(0, DEPTH)
    begin = part * per_part
    end = tl.minimum(begin + per_part, rows)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(begin, end, DEPTH):
        m = start + lanes
        few = m < end
        time, entry, height = rows_of_pixels(tl.where(few, m, begin), heights, batch)
        row, column, there = gathered(
            time[:, None],
            height[:, None],
            tl.minimum(stretch, stretches - 1),
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
        at = row.to(tl.int64) * time_stride + (entry.to(tl.int64) * batch_stride)[:, None] + column
        there = there & few[:, None] & (k < depth)[None, :]
        a = tl.load(x + at, mask=there, other=0.0)  # [DEPTH, COLUMNS]
        mask = few[:, None] & (n < dim)[None, :]
        g = tl.load(gradient + m[:, None].to(tl.int64) * dim + n[None, :], mask=mask, other=0.0)
        total = dot(tl.trans(g), a, total, PRECISION)
    mask = (n < dim)[:, None] & (k < depth)[None, :]
    part_at = target + part.to(tl.int64) * dim * depth
    tl.store(part_at + n[:, None] * depth + k[None, :], total, mask=mask)


def filter_gradient(
    x: Tensor, gradient: Tensor, image: Image, taps: Taps, windows: Windows
) -> Tensor:
    """The derivative with respect to the filters, `(filters, offsets * channels)`.

    Args:
        x: the rows that were read, `(stored, batch, height_in * channels)`.
        gradient: the derivative with respect to the result, `(windows.count, batch, height_out *
            filters)`.
    """
    of_filters: Tensor = image_convolution_filters(x, gradient, *flatten(image, taps, windows))
    return of_filters


def _fake_filters(
    x: Tensor, gradient: Tensor, image: Sequence[int], offsets: Sequence[int], *others: object
) -> Tensor:
    return x.new_empty((gradient.shape[-1] // image[2], len(offsets) // 2 * image[0]))


@operator(
    f"image_convolution_filters(Tensor x, Tensor gradient, {SCHEMA}) -> Tensor",
    fake=_fake_filters,
)
def image_convolution_filters(
    x: Tensor,
    gradient: Tensor,
    image: Sequence[int],
    offsets: Sequence[int],
    windows: Sequence[int],
    index: Tensor | None,
) -> Tensor:
    """The operator behind `filter_gradient`: each part sums over some of the output pixels, and
    parts are added up in order, so that results repeat."""
    result = _fake_filters(x, gradient, image, offsets)
    shape, taps, given = unflatten(image, offsets, windows, index)
    dim, depth = result.shape
    rows = given.count * x.shape[1] * shape.height_out
    if result.numel() == 0 or rows == 0:
        return result.zero_()
    x = x if x.stride(-1) == 1 else x.contiguous()
    parts = row_parts(dim, depth, rows, x)
    target = x.new_empty((parts, dim, depth), dtype=torch.float32)
    path = walk(taps.offsets)
    where = None if index is None else resident(index, x.device)
    _filter_gradient(
        lambda meta: (triton.cdiv(dim, meta["ROWS"]) * triton.cdiv(depth, meta["COLUMNS"]), parts),
        like=(bucket(rows), dim, depth, parts, index is None, x.dtype),
        gradient=gradient.contiguous(),
        x=x,
        time_stride=x.stride(0),
        batch_stride=x.stride(1),
        target=target,
        index=where,
        table=table(path, x.device),
        stretches=len(path.numbers),
        window=0 if where is None else where.shape[1],
        first=given.first,
        step=given.step,
        shift=given.shift,
        stored=x.shape[0],
        height_first=path.heights[0],
        height_step=shape.height_step,
        channels=shape.channels,
        columns=shape.height_in * shape.channels,
        run=path.pixels * shape.channels,
        rows=rows,
        batch=x.shape[1],
        heights=shape.height_out,
        dim=dim,
        per_part=triton.cdiv(rows, parts),
        PRECISION=input_precision(x.dtype),
        DEPTH=depth_block(x.dtype),
    )
    return target.sum(dim=0).to(result.dtype)
