"""Functions on rows `(frames, dim)` in float64 that both legacy toolkits compute."""

from __future__ import annotations

import numpy as np

from nnet.converters.legacy import Rows

SMALLEST = -1e20
"""Where the legacy max-pooling starts."""

SQUARED_NORM_FLOOR = 2.0**-66


def affine(rows: Rows, linear: np.ndarray, bias: np.ndarray | None = None) -> Rows:
    """`linear x + bias`."""
    result = rows @ linear.T.astype(np.float64)
    return result if bias is None else result + bias


def sigmoid(rows: Rows) -> Rows:
    """1 / (1 + exp(-x)), without overflow."""
    return np.exp(-np.logaddexp(0.0, -rows))


def log_softmax(rows: Rows) -> Rows:
    """x - log(sum(exp(x)))."""
    shifted = rows - rows.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def softmax(rows: Rows) -> Rows:
    """exp(x) / sum(exp(x))."""
    return np.exp(log_softmax(rows))


def patch_columns(patches: int, step: int, offsets: np.ndarray) -> np.ndarray:
    """The input column of each element of each patch, `(patches, filter_dim)`.

    Args:
        patches: number of patches.
        step: columns from one patch to the next.
        offsets: columns of the first patch, in the order of the filter `(filter_dim,)`.
    """
    return step * np.arange(patches)[:, None] + offsets


def convolve(rows: Rows, columns: np.ndarray, filters: np.ndarray, bias: np.ndarray) -> Rows:
    """All filters on each patch, `(frames, patches * filters)`, patch by patch."""
    result = rows[:, columns] @ filters.T.astype(np.float64) + bias
    return result.reshape(len(rows), -1)


def pools(rows: Rows, size: int, step: int, stride: int) -> Rows:
    """Groups of `size` blocks of `stride` columns, `step` blocks apart.

    Returns `(frames, pools, size, stride)`.
    """
    blocks = rows.reshape(len(rows), -1, stride)
    count = 1 + (blocks.shape[1] - size) // step
    return blocks[:, step * np.arange(count)[:, None] + np.arange(size)]


def max_pool(rows: Rows, size: int, step: int, stride: int) -> Rows:
    """The largest of each pool, `(frames, pools * stride)`."""
    return np.maximum(pools(rows, size, step, stride).max(axis=2), SMALLEST).reshape(len(rows), -1)


def average_pool(rows: Rows, size: int, step: int, stride: int) -> Rows:
    """The mean of each pool, `(frames, pools * stride)`."""
    return pools(rows, size, step, stride).mean(axis=2).reshape(len(rows), -1)
