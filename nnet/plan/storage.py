"""Where the values of a loop lie while it runs.

Values that are computed have a buffer, rows in the order of their times. Values that only look at
others (at another time, at some columns, as zeros where there is nothing) have none: they are
places in a buffer, and the zeros are rows of padding around it. A value that is appended to others
is computed where the append has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from nnet.plan import ir
from nnet.plan.ir import Plan, Value
from nnet.plan.layout import Layout, Piece
from nnet.plan.loops import Loop
from nnet.plan.times import IntArray, Selection


@dataclass(frozen=True)
class Place:
    """Rows of a value in a buffer: `start + step i`, or `index[i]`; columns `column` + `dim`.

    Rows outside 0 .. rows of the buffer are padding, which holds zeros.
    """

    buffer: Value
    start: int
    step: int
    count: int
    column: int
    dim: int
    index: IntArray | None = field(default=None, compare=False)

    def is_same(self, other: Place) -> bool:
        """True if both are regular and the same."""
        return self.index is None and other.index is None and self == other

    def rows(self) -> IntArray:
        if self.index is not None:
            return self.index
        return self.start + self.step * np.arange(self.count, dtype=np.int64)

    def through(self, selection: Selection) -> Place:
        """The rows of this place that a selection takes."""
        if self.index is None and selection.index is None:
            start = self.start + self.step * selection.start
            return replace(
                self, start=start, step=self.step * selection.step, count=selection.count
            )
        return self._at(self.rows()[positions(selection)])

    def padded(self, piece: Piece, count: int, stored: int) -> Place:
        """`count` rows, those of a piece of this place where it says, zeros elsewhere.

        Args:
            stored: rows of the buffer.
        """
        inner = self.through(piece.rows)
        if piece.into is None:
            return inner
        rows = np.full(count, -1, dtype=np.int64)
        rows[piece.into] = inner.rows()
        defined = np.zeros(count, dtype=bool)
        defined[piece.into] = True
        if len(piece.into) == 0:
            return replace(self, start=-1, step=0, count=count, index=None)
        step = inner.step if inner.index is None and len(piece.into) > 1 else 1
        regular = rows[piece.into[0]] + step * (np.arange(count) - piece.into[0])
        outside = (regular < 0) | (regular >= stored)
        if np.array_equal(regular[defined], rows[defined]) and outside[~defined].all():
            return replace(self, start=int(regular[0]), step=step, count=count, index=None)
        return self._at(rows)

    def columns(self, offset: int, dim: int) -> Place:
        return replace(self, column=self.column + offset, dim=dim)

    def _at(self, rows: IntArray) -> Place:
        return replace(self, index=rows, count=len(rows))


def positions(selection: Selection) -> IntArray:
    """The positions that a selection takes, in order."""
    if selection.index is not None:
        return selection.index
    return selection.start + selection.step * np.arange(selection.count, dtype=np.int64)


@dataclass
class Buffer:
    """`front` rows of zeros, `rows` rows, `back` rows of zeros; `width` columns."""

    rows: int
    width: int
    front: int = 0
    back: int = 0


@dataclass
class Storage:
    """What a loop needs to run under a layout.

    Attributes:
        computed: the values that steps compute, in order.
        steps: for each of `computed` the rows `first` up to `end` that each step computes.
        places: where every value of the loop lies.
        buffers: by the value that they are for.
    """

    computed: tuple[Value, ...]
    steps: Mapping[Value, list[tuple[int, int]]]
    places: dict[Value, Place] = field(default_factory=dict)
    buffers: dict[Value, Buffer] = field(default_factory=dict)


VIEWS = (ir.Carried, ir.Look, ir.Columns, ir.IfDefined)


def arrange(plan: Plan, layout: Layout, loop: Loop) -> Storage:
    """Buffers and steps for the values of a loop that a layout needs."""
    needed = [v for v in loop.values if layout.times[v].count]
    computed = tuple(v for v in needed if not isinstance(plan.operations[v], VIEWS))
    storage = Storage(computed, _steps(layout, loop, computed))
    inside = _written_inside(plan, layout, computed)
    for value in computed:
        count, dim = layout.times[value].count, plan.dim(value)
        if value in inside:
            buffer, column = inside[value]
            storage.places[value] = Place(buffer, 0, 1, count, column, dim)
        else:
            storage.places[value] = Place(value, 0, 1, count, 0, dim)
            storage.buffers[value] = Buffer(count, dim)
    for value in needed:
        _place(value, plan, layout, storage)
    for place in storage.places.values():
        if place.count:
            buffer_ = storage.buffers[place.buffer]
            rows = place.rows() if place.index is not None else place.rows()[[0, -1]]
            buffer_.front = max(buffer_.front, -int(rows.min()))
            buffer_.back = max(buffer_.back, int(rows.max()) - buffer_.rows + 1)
    return storage


def _steps(
    layout: Layout, loop: Loop, computed: tuple[Value, ...]
) -> dict[Value, list[tuple[int, int]]]:
    """The rows of each computed value that each step makes; steps in the order of their run."""
    sign = 1 if loop.forward else -1
    numbers = {v: (sign * layout.times[v].array() + loop.phases[v]) // loop.block for v in computed}
    steps = np.sort(np.concatenate(list(numbers.values())))
    steps = steps[np.flatnonzero(np.diff(steps, prepend=steps[0] - 1))]
    ranges = {}
    for value, own in numbers.items():
        ascending = own if loop.forward else own[::-1]
        first = np.searchsorted(ascending, steps, side="left")
        end = np.searchsorted(ascending, steps, side="right")
        if not loop.forward:
            first, end = len(own) - end, len(own) - first
        ranges[value] = list(zip(first.tolist(), end.tolist(), strict=True))
    return ranges


def _written_inside(
    plan: Plan, layout: Layout, computed: tuple[Value, ...]
) -> dict[Value, tuple[Value, int]]:
    """Values that can be written where an append has them: the append, and from which column on."""
    inside: dict[Value, tuple[Value, int]] = {}
    for value in computed:
        operation = plan.operations[value]
        if not isinstance(operation, ir.Append):
            continue
        column = 0
        for source in operation.sources:
            part = source.value
            alone = part not in inside and not isinstance(plan.operations[part], ir.Append)
            if alone and part in computed and layout.times[part] == layout.times[value]:
                inside[part] = (value, column)
            column += plan.dim(part)
    return inside


def _place(value: Value, plan: Plan, layout: Layout, storage: Storage) -> Place:
    """The place of a value; views are found through what they look at."""
    if value in storage.places:
        return storage.places[value]
    operation = plan.operations[value]
    piece = layout.reads[value][0]
    source = operation.of if isinstance(operation, ir.Carried) else operation.operands[0]
    if isinstance(operation, ir.IfDefined) and not piece.rows.count:
        storage.buffers[value] = Buffer(0, operation.dim)  # nothing but padding
        place = Place(value, -1, 0, layout.times[value].count, 0, operation.dim)
    else:
        seen = _place(source, plan, layout, storage)
        stored = storage.buffers[seen.buffer].rows
        place = seen.padded(piece, layout.times[value].count, stored)
        if isinstance(operation, ir.Columns):
            place = place.columns(operation.offset, operation.dim)
    storage.places[value] = place
    return place
