"""Kaldi's compressed matrices (CompressedMatrix): one or two bytes an element."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError

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


def compress(matrix: NDArray[np.float32], token: str | None = None) -> tuple[str, bytes]:
    """The token of a compressed matrix and all that follows it, header included.

    Args:
        matrix: (rows, columns), finite.
        token: CM, CM2 or CM3; without it, as Kaldi chooses: CM above 8 rows, else CM2.

    Raises:
        NnetError: an element is not finite.
    """
    if matrix.size == 0:
        return "CM", struct.pack("<ffii", 0.0, 0.0, 0, 0)
    token = token or ("CM" if matrix.shape[0] > 8 else "CM2")
    least, most = np.float32(matrix.min()), np.float32(matrix.max())
    if not (np.isfinite(least) and np.isfinite(most)):
        raise NnetError("a matrix with NaN or infinity cannot be compressed; look for its source")
    if least == most:
        most = np.float32(least + np.float32(1.0 + abs(float(least))))
    spread = np.float32(most - least)
    header = struct.pack("<ffii", least, spread, *matrix.shape)
    if token != "CM":
        codes = _codes(matrix, least, spread, STEPS[token]).astype(ELEMENT[token])
        return token, header + codes.tobytes()
    return token, header + _compress_columns(matrix, least, spread)


def _codes(
    values: NDArray[np.float32], least: np.float32, spread: np.float32, steps: int
) -> NDArray[np.int32]:
    """In which step each value lies. The sum is in double precision, as Kaldi's is."""
    share = np.clip((values - least) / spread, np.float32(0), np.float32(1))
    return ((share * np.float32(steps)).astype(np.float64) + 0.499).astype(np.int32)


def _compress_columns(matrix: NDArray[np.float32], least: np.float32, spread: np.float32) -> bytes:
    """Percentiles of each column and a byte for each element, column by column."""
    ordered = np.sort(matrix, axis=0)
    rows = len(ordered)
    places = (0, rows // 4, 3 * (rows // 4), rows - 1) if rows >= 5 else range(min(rows, 4))
    heads = np.zeros((4, matrix.shape[1]), np.int32)
    codes = _codes(ordered[list(places)], least, spread, STEPS["CM"])
    for k, largest in enumerate((65532, 65533, 65534, 65535)):
        lowest = heads[k - 1] + 1 if k else 0
        wanted = codes[k] if k < len(codes) else lowest
        heads[k] = np.minimum(np.maximum(wanted, lowest), largest)
    unit = spread * np.float32(1 / STEPS["CM"])
    p0, p25, p75, p100 = least + unit * heads.astype(np.float32)
    with np.errstate(all="ignore"):
        lower = _rounded((matrix - p0) / (p25 - p0) * np.float32(64), 0, 0, 64)
        middle = _rounded((matrix - p25) / (p75 - p25) * np.float32(128), 64, 64, 192)
        upper = _rounded((matrix - p75) / (p100 - p75) * np.float32(63), 192, 192, 255)
    codes = np.where(matrix < p25, lower, np.where(matrix < p75, middle, upper))
    return heads.T.astype("<u2").tobytes() + codes.T.astype("u1").tobytes()


def _rounded(share: NDArray[np.float32], start: int, least: int, most: int) -> NDArray[np.float64]:
    """`start` plus the nearest integer (towards zero from share + 0.5), within bounds."""
    return np.clip(start + np.trunc(share.astype(np.float64) + 0.5), least, most)
