"""The offsets of filters as the kernels of image convolutions walk them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nnet.kernels.gpu import device_function, tl

FlatGeometry = tuple[list[int], list[int], list[int], Tensor | None]
SCHEMA = "int[] image, int[] offsets, int[] windows, Tensor? index"
"""How operators take an image, taps and windows."""


class Walk(NamedTuple):
    """Stretches of filter columns; in each the columns of a row's pixels are read one by one.

    Attributes:
        numbers: of each stretch, the row of the window.
        heights: of each stretch, the pixel where it begins, relative to the output's.
        pixels: in a stretch.
    """

    numbers: tuple[int, ...]
    heights: tuple[int, ...]
    pixels: int

    @property
    def closed(self) -> bool:
        """Whether stretch j is simply row j, and all begin at the same height."""
        return self.numbers == tuple(range(len(self.numbers))) and len(set(self.heights)) == 1


def walk(offsets: Sequence[tuple[int, int]]) -> Walk:
    """Joins the offsets of a row whose heights follow each other, if that fits all rows alike."""
    stretches: list[tuple[int, int, int]] = []
    for number, height in offsets:
        if stretches:
            before, first, pixels = stretches[-1]
            if before == number and height == first + pixels:
                stretches[-1] = (number, first, pixels + 1)
                continue
        stretches.append((number, height, 1))
    if len({pixels for _, _, pixels in stretches}) != 1:
        stretches = [(number, height, 1) for number, height in offsets]
    numbers, heights, pixels = zip(*stretches, strict=True)
    return Walk(numbers, heights, pixels[0])


_TABLES: dict[tuple[Walk, torch.device], Tensor] = {}


def table(path: Walk, device: torch.device) -> Tensor | None:
    """Numbers and heights, int32 (2, stretches), on a device, where they are kept; None if the
    kernels can do without."""
    if path.closed:
        return None
    tensor = _TABLES.get((path, device))
    if tensor is None:
        tensor = torch.tensor([path.numbers, path.heights], dtype=torch.int32).to(device)
        _TABLES[path, device] = tensor
    return tensor


@device_function
def rows_of_pixels(m, heights, batch):
    """Output pixels m, in order (time, batch, height), as the three."""
    rest = m // heights
    return rest // batch, rest % batch, m % heights


@device_function
def gathered(
    time,
    height,
    stretch,
    inside,
    index,
    table,
    stretches,
    window,
    first,
    step,
    shift,
    stored,
    height_first,
    height_step,
    channels,
    columns,
):
    """Which stored row and column an output pixel reads at a place in a stretch; and whether they
    are there.

    Args:
        time, height: of the output.
        stretch, inside: number of the stretch, and the place in it, in columns.
        window: rows of a window.
        columns: of a stored row.
    """
    if table is None:
        number = stretch
        begin = height_first
    else:
        number = tl.load(table + stretch)
        begin = tl.load(table + stretches + stretch)
    if index is None:
        row = first + time * step + number * shift
    else:
        row = tl.load(index + time * window + number).to(tl.int32)
    column = (height * height_step + begin) * channels + inside
    there = (row >= 0) & (row < stored) & (column >= 0) & (column < columns)
    return row, column, there
