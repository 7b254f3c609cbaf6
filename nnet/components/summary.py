"""Numbers and arrays in the words of nnet3-info."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

PERCENTILES = ((0, 1, 2, 5), (10, 20, 50, 80, 90), (95, 98, 99, 100))


def general(value: float, digits: int = 6) -> str:
    """A number as C++ streams print it with `digits` significant digits."""
    return f"{value:.{digits}g}"


def plain(key: str, value: Any) -> str:
    """`key=value`."""
    if isinstance(value, bool):
        return f"{key}={'true' if value else 'false'}"
    if isinstance(value, float):
        return f"{key}={general(value)}"
    if isinstance(value, tuple):
        return f"{key}={','.join(map(str, value))}"
    return f"{key}={value}"


def succinct(value: float) -> str:
    """A number in few characters: about two significant digits."""
    size = abs(value)
    if 10.0 <= size < 10000.0:
        return f"{value:.0f}"
    if size >= np.float32(0.995):
        return f"{value:.1f}"
    if size >= np.float32(0.01):
        return f"{value:.2f}"
    return f"{value:.1g}"


def summarize_vector(vector: np.ndarray) -> str:
    """All values of a short vector; of a longer one percentiles, mean and standard deviation."""
    values = vector.astype(np.float32)
    if values.size < 10:
        return "[ " + "".join(succinct(v) + " " for v in values.tolist()) + "]"
    ordered = np.sort(values).tolist()
    last = len(ordered) - 1
    names = " ".join(",".join(map(str, group)) for group in PERCENTILES)
    picked = " ".join(
        ",".join(succinct(ordered[last * percentile // 100]) for percentile in group)
        for group in PERCENTILES
    )
    mean, stddev = mean_and_stddev(values)
    return (
        f"[percentiles({names})=({picked}), mean={general(mean, 3)}, stddev={general(stddev, 3)}]"
    )


def mean_and_stddev(array: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation over all elements."""
    values = array.astype(np.float64)
    mean = float(values.mean())
    return mean, math.sqrt(max(0.0, float(np.mean(values * values)) - mean * mean))


def mean_stddev(name: str, array: np.ndarray) -> str:
    """`name-{mean,stddev}=...`."""
    mean, stddev = mean_and_stddev(array)
    return f"{name}-{{mean,stddev}}={general(mean, 4)},{general(stddev, 4)}"


def rms(name: str, array: np.ndarray) -> str:
    """`name-rms=...`, the root of the mean square."""
    flat = array.ravel()
    value = math.sqrt(float(np.dot(flat, flat)) / flat.size)
    return f"{name}-rms={general(value, 4)}"


def matrix_norms(name: str, matrix: np.ndarray) -> str:
    """RMS, 2-norms of the rows and 2-norms of the columns of a matrix."""
    rows = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
    columns = np.sqrt(np.einsum("ij,ij->j", matrix, matrix))
    return (
        f"{rms(name, matrix)}, {name}-row-norms={summarize_vector(rows)}, "
        f"{name}-col-norms={summarize_vector(columns)}"
    )
