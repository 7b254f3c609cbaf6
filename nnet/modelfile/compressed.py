"""Kaldi's compressed matrices (CompressedMatrix): one or two bytes an element."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

STEPS = {"CM": 65535, "CM2": 65535, "CM3": 255}
"""By token: into how many steps the range from minimum to maximum is divided."""

ELEMENT: dict[str, np.dtype[Any]] = {
    "CM": np.dtype("u1"),
    "CM2": np.dtype("<u2"),
    "CM3": np.dtype("u1"),
}


def compressed_size(token: str, rows: int, columns: int) -> int:
    """Bytes that follow the header of a compressed matrix."""
    percentiles = 8 * columns if token == "CM" else 0
    return percentiles + rows * columns * ELEMENT[token].itemsize


def uncompress(
    token: str, minimum: float, spread: float, rows: int, columns: int, data: bytes
) -> NDArray[np.float32]:
    """The matrix (rows, columns) of what follows the header.

    Args:
        token: CM (each column has percentiles 0, 25, 75 and 100 of its own), CM2 or CM3.
        minimum, spread: from the header; the range of the elements.
        data: as many bytes as `compressed_size` says.
    """
    with np.errstate(all="ignore"):
        if token == "CM":
            return _by_percentiles(minimum, spread, rows, columns, data)
        codes = np.frombuffer(data, ELEMENT[token]).reshape(rows, columns)
        step = np.float32(spread * (1.0 / STEPS[token]))
        return np.float32(minimum) + codes.astype(np.float32) * step


def _by_percentiles(
    minimum: float, spread: float, rows: int, columns: int, data: bytes
) -> NDArray[np.float32]:
    """Bytes up to 64, 192 and 255 divide the spans between the percentiles evenly.

    The last steps are in double precision, as Kaldi's are.
    """
    heads = np.frombuffer(data, "<u2", 4 * columns).astype(np.float32).reshape(-1, 4, 1)
    unit = np.float32(spread) * np.float32(1 / STEPS["CM"])
    p0, p25, p75, p100 = np.moveaxis(np.float32(minimum) + unit * heads, 1, 0)
    codes = np.frombuffer(data, "u1", offset=8 * columns).reshape(columns, rows)
    code = codes.astype(np.float32)
    lower = p0 + ((p25 - p0) * code).astype(np.float64) / 64
    middle = p25 + ((p75 - p25) * (code - 64)).astype(np.float64) / 128
    upper = p75 + ((p100 - p75) * (code - 192)).astype(np.float64) / 63
    values = np.where(codes <= 64, lower, np.where(codes <= 192, middle, upper))
    return np.ascontiguousarray(values.T, np.float32)
