"""Where rows of a loop lie: buffers, and places in them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from nnet.plan.ir import Value
from nnet.plan.layout import Piece
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
        """The rows of the buffer, one by one; those of padding are negative or beyond its end."""
        if self.index is not None:
            return self.index
        return self.start + self.step * np.arange(self.count, dtype=np.int64)

    def through(self, selection: Selection) -> Place:
        """The rows of this place that a selection takes."""
        if self.index is None and selection.index is None:
            # Row i that is taken is this place's row k = start + step i, so steps multiply.
            start = self.start + self.step * selection.start
            return replace(
                self, start=start, step=self.step * selection.step, count=selection.count
            )
        return self._at(self.rows()[_positions(selection)])

    def padded(self, piece: Piece, count: int, stored: int) -> Place:
        """`count` rows, those of a piece of this place where it says, zeros elsewhere.

        Args:
            stored: rows of the buffer.
        """
        inner = self.through(piece.rows)
        if piece.into is None:
            return inner
        # Row -1, in the padding before the buffer's first row, holds zeros whatever the size of it.
        rows = np.full(count, -1, dtype=np.int64)
        rows[piece.into] = inner.rows()
        defined = np.zeros(count, dtype=bool)
        defined[piece.into] = True
        if len(piece.into) == 0:
            return replace(self, start=-1, step=0, count=count, index=None)
        # If the rows that are there are regular, and counting on at the same step leads to padding
        # at all others, then so is the place: a view of the buffer, where an index would be a copy.
        # One row alone goes with any step: 1 is tried.
        step = inner.step if inner.index is None and len(piece.into) > 1 else 1
        regular = rows[piece.into[0]] + step * (np.arange(count) - piece.into[0])
        outside = (regular < 0) | (regular >= stored)
        if np.array_equal(regular[defined], rows[defined]) and outside[~defined].all():
            return replace(self, start=int(regular[0]), step=step, count=count, index=None)
        return self._at(rows)

    def columns(self, offset: int, dim: int) -> Place:
        """Columns `offset` .. `offset + dim` of this place."""
        return replace(self, column=self.column + offset, dim=dim)

    def _at(self, rows: IntArray) -> Place:
        return replace(self, index=rows, count=len(rows))


def _positions(selection: Selection) -> IntArray:
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
