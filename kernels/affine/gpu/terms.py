"""Spliced terms as kernels take them: flat for operators' schemas, joined to runs, in strides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nnet.kernels.affine.terms import Term
from nnet.kernels.functions import FUNCTIONS
from nnet.kernels.gpu import (
    INTERPRETED,
    Configuration,
    device_function,
    function_of_text,
    tl,
    triton,
)
from nnet.kernels.windows.windows import resident

TILES = (
    Configuration({"ROWS": 128, "COLUMNS": 128}, warps=8, stages=3),  # most layers
    Configuration({"ROWS": 128, "COLUMNS": 256}, warps=8, stages=3),  # wide ones: fewer reads
    Configuration({"ROWS": 128, "COLUMNS": 64}, warps=8, stages=4),  # bottlenecks: 160 = 2.5 * 64
    Configuration({"ROWS": 64, "COLUMNS": 64}, warps=4, stages=4),  # few rows: more programs
)
"""Tiles of the result of a matrix product."""

SMALL = {"ROWS": 32, "COLUMNS": 32}


def tile_fits(choice: Configuration, arguments: Mapping[str, Any], architecture: int) -> bool:
    """Accumulators, and the three parts that float32's factors are split into, fit the registers.

    The widest tile leaves none for an epilogue that reads more rows, and before sm_90, whose tensor
    cores read shared memory, none for the factors."""
    elements = choice.constants["ROWS"] * choice.constants["COLUMNS"] // (32 * choice.warps)
    if arguments["PRECISION"] == "tf32x3":
        return elements <= (32 if architecture < 90 else 64)
    return elements <= (64 if arguments.get("bypass") or architecture < 90 else 128)


SCHEMA = "Tensor[] sources, Tensor?[] positions, int[] places, float[] scales"
"""How operators take sources and terms."""

FlatTerms = tuple[list[Tensor | None], list[int], list[float]]


def flatten(terms: Sequence[Term]) -> FlatTerms:
    """Terms as the schema has them: positions, the six numbers of each, scales."""
    places = [n for t in terms for n in (t.source, t.start, t.step, t.length, t.offset, t.dim)]
    return [t.positions for t in terms], places, [t.scale for t in terms]


def unflatten(
    positions: Sequence[Tensor | None], places: Sequence[int], scales: Sequence[float]
) -> list[Term]:
    """Terms from the lists that `flatten` made of them."""
    terms = []
    for i, (where, scale) in enumerate(zip(positions, scales, strict=True)):
        source, start, step, length, offset, dim = places[6 * i : 6 * i + 6]
        terms.append(Term(source, start, step, length, where, offset, dim, scale))
    return terms


def packed(tensor: Tensor) -> Tensor:
    """The tensor's rows, with no gaps between columns."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


class JoinedTerms(NamedTuple):
    """Terms of the same columns of a source whose rows are shifted by the same number each time.

    Element k of a run's row t is column `k % dim` of the source's row at
    `start + t * step + k // dim * shift`, or at `positions[t]` (a single term then).
    """

    term: Term
    terms: int
    shift: int

    @property
    def depth(self) -> int:
        """The columns of all terms that are joined, side by side."""
        return self.terms * self.term.dim


def joined_terms(terms: Sequence[Term]) -> list[JoinedTerms]:
    """Consecutive terms joined where they can be."""
    joined: list[JoinedTerms] = []
    for term in terms:
        if joined and (longer := _joined(joined[-1], term)) is not None:
            joined[-1] = longer
        else:
            joined.append(JoinedTerms(term, 1, 0))
    return joined


def _joined(run: JoinedTerms, term: Term) -> JoinedTerms | None:
    first = run.term
    if first.positions is not None or term.positions is not None:
        return None
    if term._replace(start=first.start) != first:
        return None
    shift = term.start - first.start - (run.terms - 1) * run.shift
    if run.terms > 1 and shift != run.shift:
        return None
    return JoinedTerms(first, run.terms + 1, shift)


class RowLocations(NamedTuple):
    """Where the rows of terms or runs lie, one element of each tuple for each, as kernels take it.

    Row m = (t, b) begins at element `t * time_stride + b * batch_stride` of the tensor; where times
    and batch can be counted through, at `m * batch_stride`.
    """

    tensors: tuple[Tensor, ...]
    positions: tuple[Tensor | None, ...]
    time_strides: tuple[int, ...]
    batch_strides: tuple[int, ...]
    linear: tuple[bool, ...]


def places(sources: Sequence[Tensor], terms: Sequence[Term]) -> RowLocations:
    """The rows of terms; the tensors begin at each term's first row and column."""
    rows: list[tuple[Tensor, Tensor | None, int, int, bool]] = []
    for term in terms:
        source = sources[term.source]
        time, batch = source.stride(0), source.stride(1)
        if term.positions is not None:
            positions = resident(term.positions, source.device)
            rows.append((source[:, :, term.offset :], positions, time, batch, False))
            continue
        step = term.step * time
        single = source.shape[1] == 1
        linear = single or step == source.shape[1] * batch
        first = source[term.start :, :, term.offset :]
        rows.append((first, None, step, step if single else batch, linear))
    return RowLocations(*zip(*rows, strict=True)) if rows else RowLocations((), (), (), (), ())


@device_function
def row_offsets(m, batch, positions, time_stride, batch_stride, LINEAR: tl.constexpr):
    """Where rows m begin, in elements; m must not overrun."""
    if LINEAR:  # times follow each other as entries do, so that m counts through both
        offsets = m.to(tl.int64) * batch_stride
    elif positions is None:
        offsets = (m // batch).to(tl.int64) * time_stride + (m % batch) * batch_stride
    else:
        offsets = tl.load(positions + m // batch) * time_stride + (m % batch) * batch_stride
    return offsets


def _text_of_activated() -> str:
    lines = ["def activated(x, ACTIVATION: tl.constexpr):"]
    for name, function in FUNCTIONS.items():
        lines += [f"    if ACTIVATION == {name!r}:", f"        x = {function.triton}"]
    return "\n".join([*lines, "    return x", ""])


activated = device_function(function_of_text("activated", _text_of_activated(), {"tl": tl}))
"""x with the function by its name applied; '' for none. As torch has it; NaN stays NaN."""


@device_function
def tile(blocks_down, blocks_across, GROUP: tl.constexpr):
    """Which tile a program makes: down and across, in groups of GROUP tiles down, so that programs
    that run at a time share what they read in the level-2 cache."""
    program = tl.program_id(0)
    group = program // (GROUP * blocks_across)
    first = group * GROUP
    height = tl.minimum(blocks_down - first, GROUP)
    inside = program % (GROUP * blocks_across)
    return first + inside % height, inside // height


def depth_block(dtype: torch.dtype) -> int:
    """Columns that are multiplied at a time: 128 bytes, a row of swizzled shared memory."""
    return 128 // dtype.itemsize


def row_parts(dim: int, width: int, rows: int, like: Tensor) -> int:
    """Into how many parts the reduction over rows is split for a product `(dim, width)`.

    Every multiprocessor gets two programs: tiles are few where the weight is small. A part is worth
    it from some hundred rows on."""
    if INTERPRETED:
        return min(2, rows)
    tiles = triton.cdiv(dim, 128) * triton.cdiv(width, 128)
    wanted = 2 * torch.cuda.get_device_properties(like.device).multi_processor_count
    return max(1, min(wanted // tiles, rows // 256))
