"""One spliced affine transform for the steps of a loop on a CPU, in C++: see `packed_affine`.

All terms of a step's rows are multiplied at once, while the sums stay in registers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from nnet.kernels.packed_affine import run

AFFINE, TERM = 19, 5
"""Words of the structures in packed_affine.h."""


class AffineSteps:
    """Rows of `out` are `bias + sum_i sources[i] W_i`, those of a step at a time, in float32.

    Args:
        sources: matrices `(rows, dim_i)` with adjacent columns.
        weight: of all of them, from `pack`.
        bias: `(dim,)` or None.
        out: matrix `(rows, dim)` with adjacent columns.
        steps: for each step its first row, and the row after its last.
    """

    def __init__(
        self,
        sources: Sequence[Tensor],
        weight: Tensor,
        bias: Tensor | None,
        out: Tensor,
        steps: Sequence[tuple[int, int]],
    ) -> None:
        self._tensors = (*sources, weight, bias, out)
        firsts, ends = np.array(steps, dtype=np.int64).T
        words = np.zeros((len(steps), AFFINE + TERM * len(sources)), dtype=np.int64)
        words[:, 0], words[:, 1] = 1, ends - firsts
        words[:, 2], words[:, 4] = out.shape[1], len(sources)
        words[:, 6] = words.ctypes.data + words.itemsize * (
            np.arange(len(steps)) * words.shape[1] + AFFINE
        )
        words[:, 7] = weight.data_ptr()
        words[:, 8] = 0 if bias is None else bias.data_ptr()
        words[:, 16], words[:, 18] = _addresses(out, firsts), out.stride(0)
        depth = 0
        for number, source in enumerate(sources):
            term = words[:, AFFINE + TERM * number :]
            term[:, 0], term[:, 2] = _addresses(source, firsts), source.stride(0)
            term[:, 3], term[:, 4] = depth, depth + source.shape[1]
            depth += source.shape[1]
        words[:, 3] = depth
        self._words = words
        self._starts = (words.ctypes.data + words.strides[0] * np.arange(len(steps))).tolist()

    def __call__(self, number: int) -> None:
        """The rows of a step."""
        run(self._starts[number], 1, bf16=False)


def _addresses(rows: Tensor, firsts: np.ndarray) -> np.ndarray:
    """Where rows begin."""
    found: np.ndarray = rows.data_ptr() + rows.element_size() * rows.stride(0) * firsts
    return found
