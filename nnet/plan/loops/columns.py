"""Between which columns the values of a loop are taken apart: all that is done with a value is done
with whole pieces of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from nnet.plan import ir
from nnet.plan.derived import input_blocks
from nnet.plan.ir import Plan, Value

Piece = tuple[int, int]
"""The first column, and the number of columns."""

Link = tuple[Value, int, Value, int, int]
"""Columns a, a + 1, .. of one value are cut where columns b, b + 1, .. of another are: (value, a,
other, b, number of columns)."""


def pieces(plan: Plan, values: Sequence[Value]) -> dict[Value, list[Piece]]:
    """The pieces of the values of a loop, and of those outside it that they read."""
    cuts: dict[Value, set[int]] = defaultdict(set)
    links = [link for value in values for link in _links(plan, value)]
    for value, first, other, start, count in links:
        for end, at in ((value, first), (other, start)):
            cuts[end] |= {at, at + count}
    # A cut at column c of one end of a link is a cut at c + shift of the other, and so on by other
    # links, round a loop even back to the first: until there are no new ones.
    changed = True
    while changed:
        changed = False
        for value, first, other, start, count in links:
            for a, b, shift in ((value, other, start - first), (other, value, first - start)):
                # A value may be linked to itself: then only the shift tells which end `a` is.
                low = first if a == value and shift == start - first else start
                moved = {c + shift for c in cuts[a] if low <= c <= low + count}
                if not moved <= cuts[b]:
                    cuts[b] |= moved
                    changed = True
    return {
        value: [(a, b - a) for a, b in pairwise(sorted(firsts | {0, plan.dim(value)}))]
        for value, firsts in cuts.items()
    }


def _links(plan: Plan, value: Value) -> Iterator[Link]:
    """The columns of a value, and what they are made of or treated like."""
    operation = plan.operations[value]
    if isinstance(operation, ir.Apply):
        spec = plan.components[operation.component]
        yield from _links_of_component(spec, value, operation.source.value)
        return
    for rows in plan.reads(value):
        if rows.into is None:  # its own columns, which are read as one block
            yield rows.value, rows.offset, rows.value, rows.offset, rows.dim
        else:
            yield value, rows.into, rows.value, rows.offset, rows.dim


def _links_of_component(spec: Any, value: Value, source: Value) -> Iterator[Link]:
    """Blocks of a component's input and output that are treated column by column."""
    for blocks in blocks_of(spec):
        ends = [(source if of_input else value, first, width) for of_input, first, width in blocks]
        (first_value, first, width), *others = ends
        yield first_value, first, first_value, first, width
        for other, start, _ in others:
            yield first_value, first, other, start, width


Block = tuple[bool, int, int]
"""Whether it is of the input, its first column, and its columns."""


def blocks_of(spec: Any) -> list[list[Block]]:
    """Lists of a component's blocks that are cut alike."""
    name = spec.type_name
    if name == "LstmNonlinearityComponent":
        cells = spec.cell_dim
        alike = [(True, k * cells, cells) for k in range(5)]
        alike += [(False, k * cells, cells) for k in range(2)]
        masks = range(5 * cells, spec.input_dim)
        return [alike, *([(True, column, 1)] for column in masks)]
    if name in ("GruNonlinearityComponent", "OutputGruNonlinearityComponent"):
        return _gru_blocks(spec)
    width = spec.output_dim
    starts = range(0, spec.input_dim, width)
    return [[(False, 0, width), *((True, start, width) for start in starts)]]


def _gru_blocks(spec: Any) -> list[list[Block]]:
    cells = spec.cell_dim
    widths = input_blocks(spec)
    starts = [sum(widths[:k]) for k in range(len(widths))]
    alike = [(False, 0, cells), (False, cells, cells)]
    reset = len(widths) > 3
    states = [1, len(widths) - 1] if reset else []  # r and what it is multiplied by
    alike += [(True, starts[k], cells) for k in range(len(widths)) if k not in states]
    others = [(True, starts[k], widths[k]) for k in states]
    if reset and len(widths) == 4:  # the state is the cell itself
        return [[*alike, *others]]
    return [alike, others] if others else [alike]
