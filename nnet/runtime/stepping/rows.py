"""The buffers of a loop while it runs, and the rows of them that its operations read and write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from functools import cached_property

import torch
from torch import Tensor

from nnet.kernels.affine.terms import Term
from nnet.plan.ir import Plan, Value
from nnet.plan.layout import Layout, Piece
from nnet.plan.loops.places import Buffer, Place
from nnet.plan.loops.storage import Storage
from nnet.plan.times import Times


class RowsOf:
    """A place in a tensor `(rows, batch, width)` whose first row of data is row `front`."""

    def __init__(self, tensor: Tensor, place: Place, front: int) -> None:
        self.place = place
        self.count = place.count
        self.batch = tensor.shape[1]
        # Places count from the first row of data, tensors from the first row of padding before it.
        self.first = front + place.start
        self.tensor = tensor
        self.columns = tensor.narrow(2, place.column, place.dim)
        self.index: Tensor | None = None
        self.flat_columns: Tensor | None = None
        if place.index is not None:
            self.index = torch.from_numpy(place.index + front).to(tensor.device)
        elif (place.step == 1 or place.count == 1) and tensor.is_contiguous():
            flat = tensor.view(-1, tensor.shape[2])
            self.flat_columns = flat.narrow(1, place.column, place.dim)

    def take(self, first: int, end: int) -> Tensor:
        """Rows `first` up to `end`, `(rows, batch, dim)`; a view if the place is regular."""
        if self.index is not None:
            return self.columns.index_select(0, self.index[first:end])
        step = self.place.step
        if step == 1 or end - first == 1:
            return self.columns.narrow(0, self.first + first * step, end - first)
        if step == 0:
            return self.columns.narrow(0, self.first, 1).expand(end - first, -1, -1)
        start = self.first + first * step
        # The end of a slice lies just behind its last row: a whole step further may be outside.
        return self.columns[start : start + (end - first - 1) * step + 1 : step]

    def flat(self, first: int, end: int) -> Tensor:
        """Rows `first` up to `end` as a matrix, `(rows * batch, dim)`."""
        if self.flat_columns is not None:
            batch = self.batch
            return self.flat_columns.narrow(0, (self.first + first) * batch, (end - first) * batch)
        return self.take(first, end).reshape(-1, self.place.dim)

    def all(self) -> Tensor:
        return self.take(0, self.count)

    def add(self, first: int, end: int, rows: Tensor, scale: float = 1.0) -> None:
        """Adds `scale * rows` to rows `first` up to `end`."""
        if self.index is not None:
            self.columns.index_add_(0, self.index[first:end], rows, alpha=scale)
        elif self.place.step == 0 and end - first > 1:
            self.columns.narrow(0, self.first, 1).add_(rows.sum(0, keepdim=True), alpha=scale)
        else:
            self.take(first, end).add_(rows, alpha=scale)

    def term(self, source: int, scale: float = 1.0) -> Term:
        """All rows, as a term of an affine transform of the tensor."""
        place = self.place
        return Term(
            source, self.first, place.step, place.count, self.index, place.column, place.dim, scale
        )


Ranges = Sequence[tuple[int, int]]
"""For each step, its first row and the row after its last; all rows once, up or down."""


def split(rows: Tensor, ranges: Ranges, batch: int = 1) -> list[Tensor]:
    """The rows of each step, as views."""
    # `split_with_sizes` goes up; where time runs backward, the last step has the first rows.
    down = ranges[0][0] > ranges[-1][0]
    sizes = [(end - first) * batch for first, end in ranges]
    parts = list(rows.split_with_sizes(sizes[::-1] if down else sizes))
    return parts[::-1] if down else parts


class StepRows:
    """The rows that each step reads or writes, `(rows, batch, dim)` or flat `(rows * batch, dim)`.

    Views, all made at once, where the place is regular.

    Args:
        alone: whether what `add` brings is all there is, so that it is written.
    """

    def __init__(
        self, rows: RowsOf, ranges: Ranges, flat: bool = False, alone: bool = False
    ) -> None:
        self.rows = rows
        self.ranges = ranges
        self.flat = flat
        self.alone = alone
        self.views: list[Tensor] | None = None
        if flat and rows.flat_columns is not None:
            self.views = split(rows.flat(0, rows.count), ranges, rows.batch)
        elif not flat and rows.index is None:
            self.views = split(rows.all(), ranges)

    def __getitem__(self, number: int) -> Tensor:
        if self.views is not None:
            return self.views[number]
        first, end = self.ranges[number]
        return self.rows.flat(first, end) if self.flat else self.rows.take(first, end)

    def add(self, number: int, rows: Tensor, scale: float = 1.0) -> None:
        """Adds `scale * rows` (rows, batch, dim)."""
        if self.alone:
            torch.mul(rows, scale, out=self[number])
        elif self.views is not None and not self.flat and self.rows.place.step != 0:
            self.views[number].add_(rows, alpha=scale)
        else:
            self.rows.add(*self.ranges[number], rows, scale)

    def add_product(self, number: int, rows: Tensor, block: Tensor, scale: float) -> None:
        """Adds `scale * rows block`; `rows` is a matrix."""
        if self.views is not None and self.flat:
            view = self.views[number]
            torch.addmm(view, rows, block, alpha=scale, beta=0.0 if self.alone else 1.0, out=view)
        else:
            first, end = self.ranges[number]
            product = torch.mm(rows, block).view(end - first, self.rows.batch, block.shape[1])
            self.rows.add(first, end, product, scale)


class Run:
    """The buffers of one run of a loop, and of its derivatives."""

    def __init__(
        self,
        plan: Plan,
        layout: Layout,
        storage: Storage,
        outer: Mapping[Value, Tensor],
        like: Tensor,
        tracked: bool,
    ) -> None:
        self.plan = plan
        self.layout = layout
        self.storage = storage
        self.computed = storage.computed
        self._inside = frozenset(storage.needed)
        self.outer = outer
        self.like = like
        self.tracked = tracked
        self.buffers = self._allocate(storage.values.buffers)
        self.gradient_buffers: dict[Value, Tensor] = {}
        self.outer_gradients: dict[Value, Tensor] = {}
        self.parameter_gradients: dict[int, Tensor] = {}
        self._wanted: set[int] = set()

    def _allocate(self, buffers: Mapping[Value, Buffer]) -> dict[Value, Tensor]:
        """Buffers with zeros in their padding."""
        batch = self.like.shape[1]
        tensors = {}
        for value, buffer in buffers.items():
            shape = (buffer.front + buffer.rows + buffer.back, batch, buffer.width)
            tensors[value] = tensor = self.like.new_empty(shape)
            tensor[: buffer.front].zero_()
            tensor[buffer.front + buffer.rows :].zero_()
        return tensors

    def start_backward(
        self, parameters: Sequence[Tensor], written: Sequence[Place], spent: Set[Value]
    ) -> None:
        """Makes room for gradients.

        Args:
            written: places that steps write; everything else starts as zeros.
            spent: buffers of values that are not needed any more and may hold their gradients.
        """
        buffers = self.storage.gradients.buffers
        self.gradient_buffers = {value: self.buffers[value] for value in spent}
        fresh = {value: buffer for value, buffer in buffers.items() if value not in spent}
        self.gradient_buffers |= self._allocate(fresh)
        for value, buffer in buffers.items():
            tensor = self.gradient_buffers[value]
            stored = tensor.narrow(0, buffer.front, buffer.rows)
            places = [place for place in written if place.buffer == value]
            # Places that steps write do not overlap: together as wide as the buffer, they are all
            # of it, but for rows that a place, at another time, does not reach.
            if sum(place.dim for place in places) < buffer.width:
                stored.zero_()
            for place in places:
                columns = stored.narrow(2, place.column, place.dim)
                columns[: max(0, place.start)].zero_()
                columns[max(0, place.start + place.count) :].zero_()
        self.outer_gradients = {}
        self.parameter_gradients = {}
        self._wanted = {id(parameter) for parameter in parameters}

    def inside(self, value: Value) -> bool:
        return value in self._inside

    def rows(self, value: Value, place: Place | None = None) -> RowsOf:
        """A value of the loop, or a place in a buffer."""
        values = self.storage.values
        place = place or values.place(value)
        return RowsOf(self.buffers[place.buffer], place, values.buffers[place.buffer].front)

    def gradients(self, value: Value, place: Place | None = None) -> RowsOf:
        """The derivative with respect to a value of the loop, or that at a place in a buffer."""
        gradients = self.storage.gradients
        place = place or gradients.place(value)
        front = gradients.buffers[place.buffer].front
        return RowsOf(self.gradient_buffers[place.buffer], place, front)

    def operand(
        self, value: Value, piece: Piece, columns: tuple[int, int] | None = None
    ) -> Operand:
        """What an operation reads of a value, inside the loop or outside."""
        return Operand(self, value, piece, *(columns or (0, self.plan.dim(value))))

    def add_parameter(self, parameter: Tensor | None, gradient: Tensor | None) -> None:
        """Adds to the derivative with respect to a parameter, if it is wanted."""
        if parameter is None or gradient is None or id(parameter) not in self._wanted:
            return
        known = self.parameter_gradients.get(id(parameter))
        self.parameter_gradients[id(parameter)] = gradient if known is None else known + gradient

    def outer_gradient(self, value: Value) -> Tensor | None:
        """The sum of derivatives with respect to an outer value; None if nobody wants it."""
        if not self.outer[value].requires_grad:
            return None
        if value not in self.outer_gradients:
            self.outer_gradients[value] = torch.zeros_like(
                self.outer[value], memory_format=torch.contiguous_format
            )
        return self.outer_gradients[value]

    def add_outer(self, value: Value, gradient: Tensor | None) -> None:
        """Adds to the derivative with respect to a whole outer value; takes the tensor over."""
        if gradient is not None:
            known = self.outer_gradients.get(value)
            self.outer_gradients[value] = gradient if known is None else known.add_(gradient)


class Operand:
    """Rows `piece` and columns `offset` .. `offset + dim` of a value that an operation reads."""

    def __init__(self, run: Run, value: Value, piece: Piece, offset: int, dim: int) -> None:
        self.run = run
        self.value = value
        self.piece = piece
        self.offset = offset
        self.dim = dim
        self.inside = run.inside(value)

    @cached_property
    def place(self) -> Place:
        """The place of the values in a buffer of the loop, or in a tensor from outside."""
        if self.inside:
            seen = self.run.storage.values.place(self.value, self.offset, self.dim)
            return seen.through(self.piece.rows)
        return self._outer_place()

    @cached_property
    def gradient_place(self) -> Place:
        """The place of the derivative with respect to these values."""
        if self.inside:
            seen = self.run.storage.gradients.place(self.value, self.offset, self.dim)
            return seen.through(self.piece.rows)
        return self._outer_place()

    @cached_property
    def gets_gradient_alone(self) -> bool:
        """Whether no other gradient flows to where this one does."""
        return self.inside and self.run.storage.gradients.is_alone(self.gradient_place)

    def _outer_place(self) -> Place:
        tensor = self.run.outer.get(self.value)
        rows = 0 if tensor is None else tensor.shape[0]
        return Place(self.value, 0, 1, rows, self.offset, self.dim).through(self.piece.rows)

    @cached_property
    def rows(self) -> RowsOf:
        """The values, at their place in the buffer or tensor that has them."""
        if self.inside:
            return self.run.rows(self.value, self.place)
        return RowsOf(self.run.outer[self.value], self.place, 0)

    def gradient(self) -> RowsOf | None:
        """The place in memory that the derivative with respect to these rows is added to, if it is
        wanted."""
        if self.inside:
            return self.run.gradients(self.value, self.gradient_place)
        target = self.run.outer_gradient(self.value)
        return None if target is None else RowsOf(target, self.gradient_place, 0)


class LoopStep:
    """One operation of a loop; this base class does nothing before the steps and after them.

    Attributes:
        ranges: the rows of each step.
        rows: those rows.
        gradients: where the derivative with respect to them is, once it is asked for.
    """

    own_gradient: RowsOf
    gradients: StepRows

    def __init__(self, run: Run, value: Value) -> None:
        self.run = run
        self.value = value
        self.ranges: Ranges = run.storage.steps[value]

    @cached_property
    def own(self) -> RowsOf:
        """The rows that the steps compute, those of all steps together."""
        return self.run.rows(self.value)

    @cached_property
    def rows(self) -> StepRows:
        return StepRows(self.own, self.ranges)

    def times(self, first: int, end: int) -> Times:
        """The times of rows `first` up to `end`."""
        own = self.run.layout.times[self.value]
        if own.regular:
            return Times(own.start + first * own.step, own.step, end - first)
        return Times.of(own.array()[first:end])

    def prepare(self) -> None:
        """Computes what does not depend on the loop, for all rows."""

    def forward(self, number: int) -> None:
        """Computes the rows of step `number`."""
        raise NotImplementedError

    def gradients_written(self) -> Sequence[Place]:
        """The places of gradients that this step alone has to do with, and writes."""
        return [
            operand.gradient_place
            for operand in self.differentiated()
            if operand.inside and operand.gets_gradient_alone
        ]

    def spent(self) -> Set[Value]:
        """Buffers of values that nobody needs after the steps, so that gradients may lie there."""
        return frozenset()

    def differentiated(self) -> Sequence[Operand]:
        """Operands to whose gradients this step adds by `StepRows.add` or `add_product`."""
        return ()

    def start_backward(self) -> None:
        """Finds the places of the gradients, which are there from now on."""
        self.own_gradient = self.run.gradients(self.value)
        self.gradients = StepRows(self.own_gradient, self.ranges)

    def backward(self, number: int) -> None:
        """Adds to the derivatives with respect to the rows of the loop that step `number` reads,
        from the derivative with respect to those that it computes."""
        raise NotImplementedError

    def finish(self) -> None:
        """Adds to the derivatives with respect to parameters and to values outside, over all
        rows."""

    def read(self, operand: Operand, flat: bool = False) -> StepRows:
        """The rows of an operand that each step reads."""
        return StepRows(operand.rows, self.ranges, flat)

    def target(self, operand: Operand, flat: bool = False) -> StepRows | None:
        """The place that the derivative with respect to an operand's rows is added to; None if
        nobody wants it."""
        rows = operand.gradient()
        if rows is None:
            return None
        return StepRows(rows, self.ranges, flat, alone=operand.gets_gradient_alone)
