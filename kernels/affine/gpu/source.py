"""The gradient of `nnet.kernels.affine.spliced` for a source, a product that gathers its rows.

Each row of the source collects what the terms that read it contribute: nothing is added to memory
twice, so results repeat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nnet.kernels.affine.gpu.terms import (
    SCHEMA,
    SMALL,
    TILES,
    depth_block,
    flatten,
    tile,
    tile_fits,
    unflatten,
)
from nnet.kernels.affine.terms import Term
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
from nnet.kernels.windows.windows import resident

MOST_CLASSES = 16
"""Rows of a source that are read in steps are computed class by class, up to so many classes."""


def _source_specimen(name: str, dtype: torch.dtype, precision: str) -> Specimen:
    """TDNN-F's linear, of rows (t - 3, b) and (t, b)."""
    transposed = dtype == torch.float32
    return Specimen(
        name,
        {
            "gradients": (dtype, dtype),
            "starts": (3, 0),
            "steps": (1, 1),
            "lengths": (150, 150),
            "firsts": (0, 0),
            "dims": (1536, 1536),
            "columns": (0, 1536),
            "scales": (1.0, 1.0),
            "weight": dtype,
            "row_stride": 1 if transposed else 3072,
            "column_stride": 160 if transposed else 1,
            "target": dtype,
            "times": 153,
            "batch": 64,
            "dim": 1536,
            "depth": 160,
            "classes": 1,
            "WHOLE": True,
            "SCALED": False,
            "PRECISION": precision,
            "DEPTH": depth_block(dtype),
        },
    )


@kernel(
    configurations=TILES,
    interpreted=SMALL,
    specimens=[
        _source_specimen("fp32", torch.float32, "tf32x3"),
        _source_specimen("bf16", torch.bfloat16, "tf32"),
    ],
    fits=tile_fits,
)
def _source_gradient(
    gradients,
    starts,
    steps,
    lengths,
    firsts,
    dims,
    columns,
    scales,
    weight,
    row_stride,
    column_stride,
    target,
    times,
    batch,
    dim,
    depth,
    classes,
    WHOLE: tl.constexpr,
    SCALED: tl.constexpr,
    PRECISION: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One tile (ROWS, COLUMNS) of the derivative with respect to a source, (times * batch, dim):
    the sum over terms i of d W_i for each row t that term i reads. Rows that equal terms read are
    one class."""
    per_class = tl.cdiv(tl.cdiv(times, classes) * batch, ROWS)
    down, across = tile(per_class * classes, tl.cdiv(dim, COLUMNS), 8)
    residue = down // per_class  # the rows residue, residue + classes, ... of the source
    local = (down % per_class) * ROWS + tl.arange(0, ROWS)
    turn, entry = local // batch, local % batch
    time = residue + turn * classes
    c = across * COLUMNS + tl.arange(0, COLUMNS)
    lanes = tl.arange(0, DEPTH)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for i in tl.static_range(len(gradients)):
        # A term's row j is the source's row starts + j steps, so that row t of the source is row
        # (t - starts) / steps of the result, if that is whole. t is residue + turn * classes, and
        # `classes` a multiple of `steps`: whether it is whole is the same for all of a class.
        begin = residue - starts[i]
        here = begin // steps[i] + turn * (classes // steps[i])  # the result's time
        valid = (begin + turn * classes >= 0) & (here < lengths[i]) & (time < times)
        row = tl.where(valid, here, 0).to(tl.int64) * batch + entry
        g_rows = gradients[i] + row[:, None] * depth  # [ROWS, 1]
        if WHOLE:
            own = c
            covered = c < dim
        else:
            own = c - firsts[i]
            covered = (own >= 0) & (own < dims[i])
        w_columns = weight + (columns[i] + own)[None, :].to(tl.int64) * column_stride
        if SCALED:  # before and after, so that the products add up in `total` itself
            total *= 1.0 / scales[i]
        for k in range(0, tl.where(begin % steps[i] == 0, depth, 0), DEPTH):
            o = k + lanes
            inside = o < depth
            g = tl.load(g_rows + o[None, :], mask=valid[:, None] & inside[None, :], other=0.0)
            mask = inside[:, None] & covered[None, :]
            w = tl.load(w_columns + o[:, None] * row_stride, mask=mask, other=0.0)
            total = dot(g, w, total, PRECISION)
        if SCALED:
            total *= scales[i]
    inside = (time < times)[:, None] & (c < dim)[None, :]
    rows_at = target + (time * batch + entry)[:, None].to(tl.int64) * dim + c[None, :]
    tl.store(rows_at, total, mask=inside)


@kernel(
    configurations=[Configuration({"COLUMNS": 512}, warps=4)],  # 4 elements a thread: 16 bytes
    interpreted={"COLUMNS": 32},
    specimens=[
        Specimen(
            "fp32",
            {
                "gradient": torch.float32,
                "order": torch.int64,
                "ends": torch.int64,
                "target": torch.float32,
                "columns": 64 * 1536,
            },
        )
    ],
)
def _collect(gradient, order, ends, target, columns, COLUMNS: tl.constexpr):
    """Row t of `target` (times, columns) is the sum of those rows of `gradient` whose numbers are
    `order[ends[t]]` up to `order[ends[t + 1]]`."""
    row = tl.program_id(0)
    c = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    first = tl.load(ends + row)
    last = tl.load(ends + row + 1)
    total = tl.zeros((COLUMNS,), tl.float32)
    for i in range(first, last):
        at = tl.load(order + i) * columns
        total += tl.load(gradient + at + c, mask=c < columns, other=0.0).to(tl.float32)
    tl.store(target + row.to(tl.int64) * columns + c, total, mask=c < columns)


def _collected(gradient: Tensor, term: Term, times: int) -> Tensor:
    """The rows (times, batch, dim) that a term's derivative `gradient` (length, batch, dim) adds
    to, for a term that takes rows in any order, and some perhaps several times."""
    if term.positions is None:
        steps = torch.arange(term.length, device=gradient.device)
        positions = term.start + term.step * steps
    else:
        positions = resident(term.positions, gradient.device)
    order = torch.argsort(positions, stable=True)
    ends = torch.searchsorted(positions[order], torch.arange(times + 1, device=gradient.device))
    target = gradient.new_empty((times, *gradient.shape[1:]))
    columns = gradient.shape[1] * gradient.shape[2]
    _collect(
        lambda meta: (times, triton.cdiv(columns, meta["COLUMNS"])),
        gradient=gradient,
        order=order,
        ends=ends,
        target=target,
        columns=columns,
    )
    return target


def source_gradient(
    source: Tensor,
    terms: Sequence[Term],
    columns: Sequence[int],
    weight: Tensor,
    gradient: Tensor,
) -> Tensor:
    """The derivative with respect to one source, `(stored times, batch, columns)`.

    Args:
        terms: those that read it.
        columns: where in `weight` `(dim, columns)` each begins.
        gradient: the derivative with respect to the result, `(length, batch, dim)`.
    """
    positions, numbers, scales = flatten(terms)
    gradient_of_source: Tensor = spliced_affine_source(
        [source], positions, numbers, scales, list(columns), weight, gradient
    )
    return gradient_of_source


def _fake_source(sources: Sequence[Tensor], *others: object) -> Tensor:
    return sources[0].new_empty(sources[0].shape)


@operator(
    f"spliced_affine_source({SCHEMA}, int[] columns, Tensor weight, Tensor gradient) -> Tensor",
    fake=_fake_source,
)
def spliced_affine_source(
    sources: Sequence[Tensor],
    positions: Sequence[Tensor | None],
    numbers: Sequence[int],
    scales: Sequence[float],
    columns: Sequence[int],
    weight: Tensor,
    gradient: Tensor,
) -> Tensor:
    """The operator behind `source_gradient`; all terms are of the first source."""
    target = _fake_source(sources)
    times = target.shape[0]
    given = [
        (term, column)
        for term, column in zip(unflatten(positions, numbers, scales), columns, strict=True)
        if term.scale and term.length
    ]
    if target.numel() == 0 or not given:
        return target.zero_()
    gradient = gradient.contiguous()
    classes = _classes([term for term, _ in given])
    read = [
        (gradient, term.start, term.step, term.length)
        if term.positions is None and term.step and classes % term.step == 0
        else (_collected(gradient, term, times), 0, 1, times)
        for term, _ in given
    ]
    transposed = weight.dtype == torch.float32  # tensor cores want float32 along the reduction
    matrix = weight.t().contiguous().t() if transposed else weight.contiguous()
    _launch(target, read, given, matrix, classes)
    return target


def _classes(terms: Sequence[Term]) -> int:
    """Rows of a source are read by the same terms where they are equal modulo this."""
    steps = [term.step for term in terms if term.positions is None and term.step]
    classes = math.lcm(*steps) if steps else 1
    return classes if classes <= MOST_CLASSES else min(steps)


def _launch(
    target: Tensor,
    read: Sequence[tuple[Tensor, int, int, int]],
    given: Sequence[tuple[Term, int]],
    matrix: Tensor,
    classes: int,
) -> None:
    """Args:
    read: of each term, the gradient with start, step and length.
    given: terms and where in `matrix` their columns begin.
    """
    times, batch, dim = target.shape
    gradients, starts, steps, lengths = zip(*read, strict=True)
    per_class = triton.cdiv(times, classes) * batch
    _source_gradient(
        lambda meta: (
            triton.cdiv(per_class, meta["ROWS"]) * classes * triton.cdiv(dim, meta["COLUMNS"]),
        ),
        like=(bucket(times * batch), dim, matrix.shape, classes, len(given), matrix.dtype),
        gradients=gradients,
        starts=starts,
        steps=steps,
        lengths=lengths,
        firsts=tuple(term.offset for term, _ in given),
        dims=tuple(term.dim for term, _ in given),
        columns=tuple(column for _, column in given),
        scales=tuple(term.scale for term, _ in given),
        weight=matrix,
        row_stride=matrix.stride(0),
        column_stride=matrix.stride(1),
        target=target,
        times=times,
        batch=batch,
        dim=dim,
        depth=matrix.shape[0],
        classes=classes,
        WHOLE=all(term.dim == dim for term, _ in given),
        SCALED=any(term.scale != 1.0 for term, _ in given),
        PRECISION=input_precision(matrix.dtype),
        DEPTH=depth_block(matrix.dtype),
    )
