"""From which sizes on products are worth our C++: what the table of implementations asks too."""

from __future__ import annotations

LEAST = 64
"""Rows, columns and depth from which on matrix units are worth it."""

LONGER = 192
"""Rows or columns, whichever are more, from which on they are: fewer are too few parts."""

MULTIPLICATIONS = 1 << 21
"""That are worth it."""

PACKED_ROWS = 64
"""Steps of a loop with so many rows are multiplied with packed weights, all terms at once."""


def suit_units(rows: int, columns: int, depth: int) -> bool:
    """Whether a product is so large that matrix units are faster."""
    long = min(rows, columns, depth) >= LEAST and max(rows, columns) >= LONGER
    return long and rows * columns * depth >= MULTIPLICATIONS
