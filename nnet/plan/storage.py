"""Where the values of a loop lie while it runs.

Values that are computed have a buffer, rows in the order of their times. Values that only look at
others (at another time, at some columns, as zeros where there is nothing) have none: they are
places in a buffer, and the zeros are rows of padding around it. A value that is appended to others
is computed where the append has it. Gradients have buffers of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from nnet.plan import ir
from nnet.plan.derived import is_identity
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
class Buffers:
    """Buffers by the value that they are for, with padding for all places in them."""

    buffers: dict[Value, Buffer] = field(default_factory=dict)

    def pad(self, places: Iterable[Place]) -> None:
        """Makes room around the buffers for rows of places that lie outside."""
        for place in places:
            if place.count:
                buffer = self.buffers[place.buffer]
                rows = place.rows() if place.index is not None else place.rows()[[0, -1]]
                buffer.front = max(buffer.front, -int(rows.min()))
                buffer.back = max(buffer.back, int(rows.max()) - buffer.rows + 1)


@dataclass
class Storage:
    """What a loop needs to run under a layout.

    Attributes:
        needed: the values of the loop that there are.
        computed: those of them that steps compute, in order.
        inside: for values that are computed where an append has them: the append, and the column.
        steps: for each of `computed` the rows `first` up to `end` that each step computes.
        values: where values lie.
    """

    plan: Plan
    layout: Layout
    needed: tuple[Value, ...]
    computed: tuple[Value, ...]
    inside: Mapping[Value, tuple[Value, int]]
    steps: Mapping[Value, list[tuple[int, int]]]
    values: ValueStorage

    @cached_property
    def gradients(self) -> GradientStorage:
        """Where gradients lie."""
        found = GradientStorage(self.plan, self.layout, self.inside)
        found.resolve(self.needed, self.computed)
        return found


VIEWS = (ir.Carried, ir.Look, ir.Columns, ir.IfDefined)


def arrange(plan: Plan, layout: Layout, loop: Loop, visible: Sequence[Value]) -> Storage:
    """Buffers and steps for the values of a loop that a layout needs.

    Args:
        visible: the values that are wanted outside.
    """
    needed = tuple(v for v in loop.values if layout.times[v].count)
    computed = tuple(v for v in needed if not isinstance(plan.operations[v], VIEWS))
    inside = _written_inside(plan, layout, computed)
    values = ValueStorage(plan, layout, loop, inside)
    values.resolve(computed, visible)
    steps = _steps(layout, loop, computed)
    return Storage(plan, layout, needed, computed, inside, steps, values)


class ValueStorage(Buffers):
    """Where the values of a loop lie: columns are read where they were first made.

    Views, columns of one part of an append, and components that are the identity have no buffer;
    an append has one if something reads columns of several of its parts.
    """

    def __init__(
        self, plan: Plan, layout: Layout, loop: Loop, inside: Mapping[Value, tuple[Value, int]]
    ) -> None:
        super().__init__()
        self.plan = plan
        self.layout = layout
        self.loop = loop
        self.inside = inside
        self._known: dict[tuple[Value, int, int], Place] = {}

    def resolve(self, computed: Sequence[Value], visible: Sequence[Value]) -> None:
        """Finds the places of all that is made and read."""
        for value in (*self.inside, *visible):
            self.place(value)
        appends = [v for v in computed if isinstance(self.plan.operations[v], ir.Append)]
        for value in computed:
            if value not in appends:
                self.place(value)
                self._resolve_operands(value)
        while made := [v for v in appends if self.is_made(v)]:
            for value in made:  # reading their parts may make others
                self._resolve_operands(value)
                appends.remove(value)
        self.pad(self._known.values())

    def _resolve_operands(self, value: Value) -> None:
        operation = self.plan.operations[value]
        if isinstance(operation, ir.SplicedAffine):
            columns = [(r.value, r.offset, r.dim) for r in (*operation.terms, *operation.bypass)]
        else:
            columns = [(operand, 0, self.plan.dim(operand)) for operand in operation.operands]
        for operand, offset, dim in columns:
            if operand in self.loop.phases:
                self.place(operand, offset, dim)

    def place(self, value: Value, offset: int = 0, dim: int | None = None) -> Place:
        """The place of columns `offset` .. `offset + dim` of a value, at its own times."""
        key = (value, offset, self.plan.dim(value) if dim is None else dim)
        if key not in self._known:
            self._known[key] = self._find(*key)
        return self._known[key]

    def is_made(self, value: Value) -> bool:
        """Whether an append has a buffer of its own."""
        return value in self.buffers

    def _find(self, value: Value, offset: int, dim: int) -> Place:
        operation, count = self.plan.operations[value], self.layout.times[value].count
        if value in self.inside:
            buffer, column = self.inside[value]
            self._buffer(buffer)
            return Place(buffer, 0, 1, count, column + offset, dim)
        pieces = self.layout.reads[value]
        match operation:
            case ir.Carried(of=of):
                return self._seen(value, pieces[0], of, offset, dim)
            case ir.IfDefined() if not pieces[0].rows.count:
                self.buffers[value] = Buffer(0, operation.dim)  # nothing but padding
                return Place(value, -1, 0, count, offset, dim)
            case ir.IfDefined(source=source) | ir.Look(source=source):
                return self._seen(value, pieces[0], source.value, offset, dim)
            case ir.Columns(source=source, offset=column):
                return self._seen(value, pieces[0], source.value, column + offset, dim)
            case ir.Apply(component=component, source=source) if source.value in self.loop.phases:
                if is_identity(self.plan.components[component]):
                    return self._seen(value, pieces[0], source.value, offset, dim)
            case ir.Append(sources=sources):
                for source, piece in zip(sources, pieces, strict=True):
                    width = self.plan.dim(source.value)
                    if offset >= 0 and offset + dim <= width and source.value in self.loop.phases:
                        return self._seen(value, piece, source.value, offset, dim)
                    offset -= width
                offset += operation.dim
        self._buffer(value)
        return Place(value, 0, 1, count, offset, dim)

    def _buffer(self, value: Value) -> None:
        self.buffers.setdefault(value, Buffer(self.layout.times[value].count, self.plan.dim(value)))

    def _seen(self, value: Value, piece: Piece, source: Value, offset: int, dim: int) -> Place:
        """The place of a value that has the rows that a piece takes of another one."""
        seen = self.place(source, offset, dim)
        stored = self.buffers[seen.buffer].rows
        return seen.padded(piece, self.layout.times[value].count, stored)


class GradientStorage(Buffers):
    """Where the gradients of a loop's values lie.

    Only views have no buffer: their gradients are added to those of what they look at.
    """

    def __init__(
        self, plan: Plan, layout: Layout, inside: Mapping[Value, tuple[Value, int]]
    ) -> None:
        super().__init__()
        self.plan = plan
        self.layout = layout
        self.inside = inside
        self.places: dict[Value, Place] = {}

    def resolve(self, needed: Sequence[Value], computed: Sequence[Value]) -> None:
        """Finds the places of all values."""
        for value in computed:
            count, dim = self.layout.times[value].count, self.plan.dim(value)
            if value in self.inside:
                buffer, column = self.inside[value]
                self.places[value] = Place(buffer, 0, 1, count, column, dim)
            else:
                self.places[value] = Place(value, 0, 1, count, 0, dim)
                self.buffers[value] = Buffer(count, dim)
        for value in needed:
            self._place(value)
        self.pad(self.places.values())

    def _place(self, value: Value) -> Place:
        """The place of a value; views are found through what they look at."""
        if value in self.places:
            return self.places[value]
        operation, count = self.plan.operations[value], self.layout.times[value].count
        piece = self.layout.reads[value][0]
        if isinstance(operation, ir.IfDefined) and not piece.rows.count:
            self.buffers[value] = Buffer(0, operation.dim)  # nothing but padding
            place = Place(value, -1, 0, count, 0, operation.dim)
        else:
            source = operation.of if isinstance(operation, ir.Carried) else operation.operands[0]
            seen = self._place(source)
            place = seen.padded(piece, count, self.buffers[seen.buffer].rows)
            if isinstance(operation, ir.Columns):
                place = place.columns(operation.offset, operation.dim)
        self.places[value] = place
        return place


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
