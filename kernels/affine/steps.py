"""One spliced affine transform for the steps of a loop on a CPU, in C++: see `packed_affine`.

All terms of a step's rows are multiplied at once, while the sums stay in registers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from nnet.kernels.affine.packed import run

AFFINE, TERM, BYPASS = 19, 5, 4
"""Words of the structures in packed_affine.h."""


class AffineSteps:
    """Rows of `out` are `bias + sum_i sources[i] W_i`, those of a step at a time, in float32.

    Args:
        sources: matrices `(rows, dim_i)` with adjacent columns.
        weight: of all of them, from `pack`.
        bias: `(dim,)` or None.
        out: matrix `(rows, dim)` with adjacent columns.
        steps: for each step its first row, and the row after its last.
        adds: whether the result is added to `out` or written there.
    """

    def __init__(
        self,
        sources: Sequence[Tensor],
        weight: Tensor,
        bias: Tensor | None,
        out: Tensor,
        steps: Sequence[tuple[int, int]],
        adds: bool = False,
    ) -> None:
        self._tensors = (*sources, weight, bias, out)
        firsts, ends = np.array(steps, dtype=np.int64).T
        last = AFFINE + TERM * len(sources)
        words = np.zeros((len(steps), last + BYPASS), dtype=np.int64)
        starts = words.ctypes.data + words.strides[0] * np.arange(len(steps))
        words[:, 0], words[:, 1] = 1, ends - firsts
        words[:, 2], words[:, 4], words[:, 5] = out.shape[1], len(sources), adds
        words[:, 6], words[:, 15] = starts + words.itemsize * AFFINE, starts + words.itemsize * last
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
        words[:, last], words[:, last + 2] = words[:, 16], words[:, 18]
        words[:, last + 3] = np.float64(1.0).view(np.int64)
        self._words = words
        self._starts = starts.tolist()

    def __call__(self, number: int) -> None:
        """The rows of a step."""
        run(self._starts[number], 1, bf16=False)


def _addresses(rows: Tensor, firsts: np.ndarray) -> np.ndarray:
    """Where rows begin."""
    found: np.ndarray = rows.data_ptr() + rows.element_size() * rows.stride(0) * firsts
    return found
