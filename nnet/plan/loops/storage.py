"""Where the values of a loop lie while it runs.

Values that are computed have a buffer, rows in the order of their times. Values that only look at
others (at another time, at some columns, as zeros where there is nothing) have none: they are
places in a buffer, and the zeros are rows of padding around it. What is appended is read where it
is, or, if something reads across the borders of its parts, computed side by side. Gradients have
buffers of their own, or those of values that nobody needs any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from nnet.plan import ir
from nnet.plan.derived import derivative_reads_values, input_blocks, is_identity, takes_parts
from nnet.plan.groups import Loop
from nnet.plan.ir import Plan, Value
from nnet.plan.layout import Layout, Piece
from nnet.plan.loops.places import Buffer, Place


@dataclass(frozen=True)
class Read:
    """Columns `offset` .. `offset + dim` of an operand, and the rows of it that are read."""

    value: Value
    piece: Piece
    offset: int
    dim: int


@dataclass
class Storage:
    """What a loop needs to run under a layout.

    Attributes:
        needed: the values of the loop that there are.
        computed: those of them that steps compute, in order.
        steps: for each of `computed` the rows `first` up to `end` that each step computes.
        values: where values lie.
    """

    plan: Plan
    layout: Layout
    loop: Loop
    visible: tuple[Value, ...]
    needed: tuple[Value, ...]
    computed: tuple[Value, ...]
    steps: Mapping[Value, list[tuple[int, int]]]
    values: ValueStorage

    @cached_property
    def gradients(self) -> GradientStorage:
        """The places of the derivatives with respect to the loop's values."""
        storage = GradientStorage(self.plan, self.layout, self.loop)
        storage.resolve(self.computed, self.visible)
        return storage

    def overwritable(self, place: Place) -> bool:
        """Whether the only reader of values may keep there what it likes.

        So it is if affine transforms made them, whose derivatives do not need them.
        """
        makers = [self.plan.operations[v] for v in self.values.made_in(place.buffer)]
        affine = all(isinstance(maker, ir.SplicedAffine | ir.Append) for maker in makers)
        return affine and self.values.is_alone(place)

    def may_share(self, buffer: Value) -> bool:
        """Whether gradients lie as the values of a buffer do."""
        ours, theirs = self.values, self.gradients
        same = ours.buffers.get(buffer) == theirs.buffers.get(buffer)
        return same and ours.made_in(buffer) == theirs.made_in(buffer)


def arrange(plan: Plan, layout: Layout, loop: Loop, visible: Sequence[Value]) -> Storage:
    """Buffers and steps for the values of a loop that a layout needs.

    Args:
        visible: the values that are wanted outside.
    """
    needed = tuple(v for v in loop.values if layout.times[v].count)
    computed = tuple(v for v in needed if not plan.operations[v].looks)
    values = ValueStorage(plan, layout, loop)
    values.resolve(computed, visible)
    steps = _steps(layout, loop, computed)
    return Storage(plan, layout, loop, tuple(visible), needed, computed, steps, values)


def reads(plan: Plan, layout: Layout, value: Value) -> list[Read]:
    """What a computed value reads; a component reads its input in blocks, which may lie apart."""
    operation, pieces = plan.operations[value], layout.reads[value]
    if isinstance(operation, ir.Apply):
        source, widths = operation.source.value, _blocks(plan, operation)
        columns = zip(accumulate((0, *widths)), widths, strict=False)
        return [_part(plan, layout, Read(source, pieces[0], *column)) for column in columns]
    rows = plan.reads(value)
    return [Read(r.value, p, r.offset, r.dim) for r, p in zip(rows, pieces, strict=True)]


def _blocks(plan: Plan, operation: ir.Apply) -> tuple[int, ...]:
    """The widths of the blocks of columns that a component reads."""
    spec, source = plan.components[operation.component], operation.source.value
    maker = plan.operations[source]
    if takes_parts(spec) and isinstance(maker, ir.Append):
        return tuple(map(plan.dim, maker.operands))
    return input_blocks(spec) or (plan.dim(source),)


def _part(plan: Plan, layout: Layout, read: Read) -> Read:
    """What a read of an append comes to: columns of one of its parts, if that part has them all and
    is read row for row; else the read as it is."""
    operation, rows = plan.operations[read.value], read.piece.rows
    # Only what reads all rows in their order can read a part's rows instead: from others would have
    # to be selected twice.
    selected = (rows.start, rows.step, rows.count, rows.index is None, read.piece.into is None)
    whole = (0, 1, layout.times[read.value].count, True, True)
    if not isinstance(operation, ir.Append) or selected != whole:
        return read
    offset = read.offset
    for part, piece in zip(operation.operands, layout.reads[read.value], strict=True):
        width = plan.dim(part)
        if offset >= 0 and offset + read.dim <= width and piece.into is None:
            return Read(part, piece, offset, read.dim)
        offset -= width
    return read


class Buffers:
    """Buffers by the value that they are for, and places in them.

    Views have no buffer. An append has one if columns of several of its parts are read at once;
    then those of its parts that it alone has are made there.
    """

    def __init__(self, plan: Plan, layout: Layout, loop: Loop) -> None:
        self.plan = plan
        self.layout = layout
        self.loop = loop
        self.buffers: dict[Value, Buffer] = {}
        self.inside: dict[Value, tuple[Value, int]] = {}
        self._known: dict[tuple[Value, int, int], Place] = {}
        self._taken: dict[Value, list[Place]] = {}

    def is_transparent(self, spec: Any) -> bool:
        """Whether a component has no rows of its own here, but those of its input."""
        raise NotImplementedError

    def _reads(self, value: Value) -> list[Read]:
        """What the computation of a value takes from these buffers.

        A `Failover` or `Switch` may need no row at all of an operand, which then is nowhere.
        """
        read = reads(self.plan, self.layout, value)
        return [r for r in read if r.value in self.loop.phases and r.piece.rows.count]

    def resolve(self, computed: Sequence[Value], visible: Sequence[Value]) -> None:
        """Finds the places of all that is made and read."""
        self._computed = computed
        whole = [(value, 0, self.plan.dim(value)) for value in visible]
        appends = [v for v in computed if isinstance(self.plan.operations[v], ir.Append)]
        read = {value: self._reads(value) for value in computed}
        columns = [
            (r.value, r.offset, r.dim) for v in computed if v not in appends for r in read[v]
        ]
        stored = self._stored_appends([*columns, *whole])
        self.inside = self._written_inside(appends, stored)
        for key in whole:
            self._take(self.place(*key))
        for value in computed:
            if value in appends and value not in stored:
                continue
            if value in stored or self.looks_at(value) is None:
                self.place(value)
            for part in read[value]:
                if self.inside.get(part.value, (None,))[0] != value:
                    place = self.place(part.value, part.offset, part.dim)
                    self._take(place.through(part.piece.rows))
        self._pad()

    def place(self, value: Value, offset: int = 0, dim: int | None = None) -> Place:
        """The place of columns `offset` .. `offset + dim` of a value, at its own times."""
        key = (value, offset, self.plan.dim(value) if dim is None else dim)
        if key not in self._known:
            self._known[key] = self._find(*key)
        return self._known[key]

    def looks_at(
        self, value: Value, offset: int = 0, dim: int | None = None
    ) -> tuple[Piece, Value, int] | None:
        """What columns of a value are seen in: rows of another one, from which column on."""
        operation, pieces = self.plan.operations[value], self.layout.reads[value]
        if operation.looks and pieces[0].rows.count:
            (rows,) = operation.rows()
            return pieces[0], rows.value, rows.offset + offset
        match operation:
            case ir.Apply(component=name, source=source) if source.value in self.loop.phases:
                if self.is_transparent(self.plan.components[name]):
                    return pieces[0], source.value, offset
            case ir.Append(sources=sources):
                dim = operation.dim if dim is None else dim
                for source, piece in zip(sources, pieces, strict=True):
                    width = self.plan.dim(source.value)
                    if offset >= 0 and offset + dim <= width and source.value in self.loop.phases:
                        return piece, source.value, offset
                    offset -= width
        return None

    def is_made(self, value: Value) -> bool:
        """Whether a value has a buffer of its own."""
        return value in self.buffers

    def made_in(self, buffer: Value) -> tuple[Value, ...]:
        """The values that are made in a buffer."""
        return (buffer, *(v for v, (other, _) in self.inside.items() if other == buffer))

    def is_alone(self, place: Place) -> bool:
        """Whether a place that is read is the only one with these columns, and its rows adjacent.

        For gradients, it then is written, not added to.
        """
        shared = sum(
            other.column < place.column + place.dim and place.column < other.column + other.dim
            for other in self._taken[place.buffer]
        )
        # The place itself is one of those that share its columns. Rows that are apart or repeated
        # leave others of the buffer unwritten, or are written twice.
        return shared == 1 and place.index is None and place.step == 1

    def _take(self, place: Place) -> None:
        self._taken.setdefault(place.buffer, []).append(place)

    def _stored_appends(self, read: Sequence[tuple[Value, int, int]]) -> set[Value]:
        """The appends whose columns are read across the borders of their parts."""
        stored: set[Value] = set()
        # Reading one such append side by side reads its parts, which may be such appends as well.
        left = list(read)
        while left:
            value, offset, dim = left.pop()
            while seen := self.looks_at(value, offset, dim):
                _, value, offset = seen
            if isinstance(self.plan.operations[value], ir.Append) and value not in stored:
                stored.add(value)
                left += [(r.value, r.offset, r.dim) for r in self._reads(value)]
        return stored

    def _written_inside(
        self, appends: Sequence[Value], stored: Set[Value]
    ) -> dict[Value, tuple[Value, int]]:
        """Values that are written where an append has them: the append, and the first column."""
        inside: dict[Value, tuple[Value, int]] = {}
        for value in appends:
            column = 0
            for part in self.plan.operations[value].operands:
                alone = part not in inside and part in self._computed and part not in appends
                # With the same times, row i of the part is row i of the append's buffer.
                same = self.layout.times[part] == self.layout.times[value]
                if value in stored and alone and same and self.looks_at(part) is None:
                    inside[part] = (value, column)
                column += self.plan.dim(part)
        return inside

    def _find(self, value: Value, offset: int, dim: int) -> Place:
        operation, count = self.plan.operations[value], self.layout.times[value].count
        if value in self.inside:
            buffer, column = self.inside[value]
            self._buffer(buffer)
            return Place(buffer, 0, 1, count, column + offset, dim)
        if operation.looks and not self.layout.reads[value][0].rows.count:
            self.buffers[value] = Buffer(0, operation.dim)  # nothing but padding
            return Place(value, -1, 0, count, offset, dim)
        seen = self.looks_at(value, offset, dim)
        if seen is None:
            self._buffer(value)
            return Place(value, 0, 1, count, offset, dim)
        piece, source, offset = seen
        place = self.place(source, offset, dim)
        return place.padded(piece, count, self.buffers[place.buffer].rows)

    def _buffer(self, value: Value) -> None:
        self.buffers.setdefault(value, Buffer(self.layout.times[value].count, self.plan.dim(value)))

    def _pad(self) -> None:
        """Makes room around the buffers for rows of places that lie outside."""
        for place in self._known.values():
            if place.count:
                buffer = self.buffers[place.buffer]
                # Regular rows ascend or descend: the first and the last are the outermost.
                rows = place.rows() if place.index is not None else place.rows()[[0, -1]]
                buffer.front = max(buffer.front, -int(rows.min()))
                buffer.back = max(buffer.back, int(rows.max()) - buffer.rows + 1)


class ValueStorage(Buffers):
    """Where the values of a loop lie: columns are read where they were first made."""

    def is_transparent(self, spec: Any) -> bool:
        return is_identity(spec)

    def _reads(self, value: Value) -> list[Read]:
        operation = self.plan.operations[value]
        if isinstance(operation, ir.Apply) and self.looks_at(value) is not None:
            spec = self.plan.components[operation.component]
            return super()._reads(value) if derivative_reads_values(spec) else []
        return super()._reads(value)


class GradientStorage(Buffers):
    """Where the gradients of a loop's values lie: where those are added up that they flow to."""

    def is_transparent(self, spec: Any) -> bool:
        return False


def _steps(
    layout: Layout, loop: Loop, computed: tuple[Value, ...]
) -> dict[Value, list[tuple[int, int]]]:
    """The rows of each computed value that each step makes; steps in the order of their run."""
    # Time that runs backward is negated, so that what is computed later has the larger number.
    sign = 1 if loop.forward else -1
    frames = {v: sign * layout.times[v].array() + loop.phases[v] for v in computed}
    start = min(own.min() for own in frames.values())
    numbers = {v: (own - start) // loop.block for v, own in frames.items()}
    # Each number once; numbers at which nothing is computed are no steps.
    steps = np.sort(np.concatenate(list(numbers.values())))
    steps = steps[np.flatnonzero(np.diff(steps, prepend=steps[0] - 1))]
    ranges = {}
    for value, own in numbers.items():
        # Rows lie in the order of their times. Where those run backward, searchsorted, which wants
        # ascending numbers, gets the rows in reverse: its row i is row len - 1 - i, and so what it
        # has from `first` up to `end` is from len - end up to len - first.
        ascending = own if loop.forward else own[::-1]
        first = np.searchsorted(ascending, steps, side="left")
        end = np.searchsorted(ascending, steps, side="right")
        if not loop.forward:
            first, end = len(own) - end, len(own) - first
        ranges[value] = list(zip(first.tolist(), end.tolist(), strict=True))
    return ranges
