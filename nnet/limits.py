"""How much a file may ask for.

What a file holds, such as a matrix, takes as much memory as the file is long. A number can ask for
anything: a dim, a height, a window of time, an interval. Every such number is compared with the
limits below before memory is asked for or a loop begins. They are far above what speech needs;
where arrays are read beside the numbers, the limit grows with them.
"""

from __future__ import annotations

import math

from nnet.errors import NnetError

LARGEST_SETTING = 10_000_000
"""An integer that is a setting of a component: a size, an interval, an offset."""

LARGEST_DIM = 1_000_000
"""Columns of a row, classes, pixels."""

COLUMNS_WITHOUT_PARAMETERS = 500_000
"""Columns of all nodes of a network together, beyond as many as it has parameters."""

LARGEST_REACH = 100_000
"""Frames from an output frame to one that it reads, and frames of a period."""

LARGEST_WINDOW_PRODUCT = 1_000_000
"""Frames of a window of windows: of statistics over statistics."""

LARGEST_ARRAY = 1 << 26
"""Elements of an array of initial parameters; 256 MiB."""

LARGEST_DRAWN = 1 << 27
"""Elements of all arrays of a network's initial parameters."""

LARGEST_SEQUENCE = 1_000_000
"""Sequences of a minibatch."""

LARGEST_TIME = 100_000_000
"""Frames from the beginning of a recording to an example."""

LARGEST_PHONE = 1_000_000
LARGEST_PDF_CLASS = 10_000
"""States of a phone's HMM that differ in their pdfs."""

LARGEST_PDF = 10_000_000


def check_array(*shape: int) -> None:
    """Raises NnetError before an array of so many elements is made that no file holds."""
    size = math.prod(shape)
    if size > LARGEST_ARRAY:
        array = " x ".join(map(str, shape))
        raise NnetError(
            f"an array of {array} elements is above {LARGEST_ARRAY} elements in all, "
            "which no network for speech needs"
        )


def above(what: str, value: int, most: int) -> str:
    """The words for a number that is above its limit."""
    return f"{what} (={value}) is above {most}, which no network for speech needs"
