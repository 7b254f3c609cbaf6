"""What a recurrence runs on: the number of its rows, its buffers, matrices and vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Loop:
    """What a program runs on: tensors by the names and numbers that the program has for them.

    All are float32, but for matrices, which may have 16 bits. The reference takes any type, and
    rows of several dimensions.

    Attributes:
        rows: times * sequences.
        width: rows of a step; row j reads what was computed for row j - width, or for j + width if
            `reverse`.
        buffers: by name, (rows, columns) with any distance between rows; those that mark rows are
            uint8 (rows, 1).
        matrices: by number.
        vectors: by number, (1, columns); those of `Push`, (steps, columns) too, in the order in
            which this program goes through its steps of `width` rows each.
        added: buffers to which results are added, in programs whose rows are independent.
    """

    rows: int
    width: int
    reverse: bool
    buffers: Mapping[str, Tensor]
    matrices: Mapping[int, Tensor]
    vectors: Mapping[int, Tensor]
    added: frozenset[str] = frozenset()

    @property
    def ahead(self) -> int:
        """The distance from a row to the one that reads its state, in rows."""
        return -self.width if self.reverse else self.width

    def steps(self) -> Iterator[slice]:
        """The rows of each step, in order."""
        for start in range(0, self.rows, self.width):
            end = min(self.rows, start + self.width)
            yield slice(self.rows - end, self.rows - start) if self.reverse else slice(start, end)
