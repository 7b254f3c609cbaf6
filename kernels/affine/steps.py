"""One spliced affine transform for the steps of a loop on a CPU, in C++: see `packed`.

All terms of a step's rows are multiplied at once, while the sums stay in registers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from nnet.kernels.affine.packed import Affine, Bypass, PackedTerm, run, table_of

AFFINE, TERM, BYPASS = map(table_of, (Affine, PackedTerm, Bypass))


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
        parts = [("affine", AFFINE), ("term", TERM, (len(sources),)), ("bypass", BYPASS)]
        table = np.zeros(len(steps), dtype=parts)
        starts = table.ctypes.data + table.itemsize * np.arange(len(steps))
        affine, bypass = table["affine"], table["bypass"]
        affine["groups"], affine["rows"], affine["columns"] = 1, ends - firsts, out.shape[1]
        affine["terms"], affine["bypasses"] = len(sources), adds
        affine["term"] = starts + AFFINE.itemsize
        affine["bypass"] = starts + AFFINE.itemsize + len(sources) * TERM.itemsize
        affine["weight"] = weight.data_ptr()
        affine["bias"] = 0 if bias is None else bias.data_ptr()
        affine["out"], affine["stride"] = _addresses(out, firsts), out.stride(0)
        depth = 0
        for number, source in enumerate(sources):
            term = table["term"][:, number]
            term["rows"], term["stride"] = _addresses(source, firsts), source.stride(0)
            term["begin"], term["end"] = depth, depth + source.shape[1]
            depth += source.shape[1]
        affine["depth"] = depth
        bypass["rows"], bypass["stride"], bypass["scale"] = affine["out"], affine["stride"], 1.0
        self._table = table
        self._starts = starts.tolist()

    def __call__(self, number: int) -> None:
        """The rows of a step."""
        run(self._starts[number], 1, bf16=False)


def _addresses(rows: Tensor, firsts: np.ndarray) -> np.ndarray:
    """The addresses of rows `firsts` of a tensor, int64."""
    addresses: np.ndarray = rows.data_ptr() + rows.element_size() * rows.stride(0) * firsts
    return addresses
