"""Which rows the windows of output times read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

_RESIDENT: WeakIdKeyDictionary = WeakIdKeyDictionary()


def resident(positions: Tensor, device: torch.device) -> Tensor:
    """Positions on a device, where they are kept: a plan's positions never change."""
    if positions.device == device:
        return positions
    on_device = _RESIDENT.get(positions)
    if on_device is None or on_device.device != device:
        on_device = _RESIDENT[positions] = positions.to(device)
    return on_device


@dataclass(frozen=True, eq=False)
class Windows:
    """Which stored row is number n in the window of output time t: `first + t * step + n * shift`,
    or `index[t, n]`. There is none where that is not one of the stored rows.

    Attributes:
        count: output times.
        index: int64 `(count, rows of a window)`, -1 where there is none, on the CPU; or None.
    """

    count: int
    first: int = 0
    step: int = 1
    shift: int = 1
    index: Tensor | None = None

    @cached_property
    def columns(self) -> list[slice | Tensor]:
        """Of an index, by number, the rows: as a slice where they are all there and regular."""
        assert self.index is not None
        return [_slice(column) for column in self.index.unbind(1)]

    def take(self, x: Tensor, number: int) -> Tensor:
        """The rows of `x` (stored, ...) with that number, by the index; zeros where there is
        none."""
        column = self.columns[number]
        if isinstance(column, slice):
            return x[column]
        column = resident(column, x.device)
        present = (column >= 0).to(x.dtype).view(-1, *(1 for _ in x.shape[1:]))
        return x.index_select(0, column.clamp_min(0)) * present


def _slice(column: Tensor) -> slice | Tensor:
    positions = column.tolist()
    step = positions[1] - positions[0] if len(positions) > 1 else 1
    start = positions[0] if positions else 0
    if step < 1 or positions != [start + step * i for i in range(len(positions))] or start < 0:
        return column
    return slice(start, start + step * len(positions), step)


def inverse(index: Tensor, stored: int) -> Tensor:
    """For stored rows and numbers the output time that reads the row under the number, int64
    (stored, rows of a window); -1 where there is none."""
    readers = index.new_full((stored, index.shape[1]), -1)
    time, number = torch.nonzero(index >= 0, as_tuple=True)
    readers[index[time, number], number] = time
    return readers
