"""The unit-by-unit parts of GRUs on a CPU, for steps of a loop: gru_cpu.cpp.

    h = tanh(x_h + feedback)    c = (1 - z) h + z c'

What feeds back is w c' with a weight for each unit, or a product of a matrix with r s', which is
made between two calls. nnet3's OutputGruNonlinearityComponent and GruNonlinearityComponent. In
float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_int64, c_void_p
from typing import NamedTuple

import torch
from torch import Tensor

from nnet.kernels.native import Struct
from nnet.kernels.native_rows import Rows, over_rows

LIBRARY = "gru_cpu"


class GruParts(NamedTuple):
    """Views of the parts of a GRU's input, or of the gradient for it, each (time, batch, dim)."""

    update: Tensor
    """z, (time, batch, cells)."""
    inner: Tensor
    """x_h, (time, batch, cells)."""
    previous: Tensor
    """c', (time, batch, cells)."""
    reset: Tensor | None = None
    """r, (time, batch, states); None if w c' feeds back."""
    state: Tensor | None = None
    """s', (time, batch, states); the same as c' where there is no projection."""


class _GruTarget(Struct):
    _fields_ = (("rows", Rows), ("adds", c_int64))


class _Gru(Struct):
    _fields_ = (
        ("threads", c_int64),
        ("batch", c_int64),
        ("cells", c_int64),
        ("states", c_int64),
        ("weights", c_void_p),
        ("update", Rows),
        ("inner", Rows),
        ("previous", Rows),
        ("reset", Rows),
        ("state", Rows),
        ("reset_state", Rows),
        ("output", Rows),
    )


class _GruDerivative(Struct):
    _fields_ = (
        ("forward", _Gru),
        ("gradient", Rows),
        ("of_update", _GruTarget),
        ("of_inner", _GruTarget),
        ("of_previous", _GruTarget),
        ("of_reset", _GruTarget),
        ("of_state", _GruTarget),
        ("before_tanh", Rows),
        ("repair", c_void_p),
        ("sums", c_void_p),
        ("scratch", c_void_p),
    )


class NativeGru:
    """The cells of all rows; `reset(first, end)` and `forward(first, end)` compute some of them.

    Either there are weights, or `reset` makes r s', and what feeds back has to be where h will be
    before `forward`.

    Args:
        parts: the input.
        out: h and c, (time, batch, 2 cells).
        weights: (cells,).
        product: is overwritten with r s', (time, batch, states).
    """

    def __init__(
        self,
        parts: GruParts,
        out: Tensor,
        *,
        weights: Tensor | None = None,
        product: Tensor | None = None,
    ) -> None:
        self.struct = _Gru(
            torch.get_num_threads(),
            *parts.update.shape[1:],
            0 if product is None else product.shape[2],
            weights,
            *map(Rows.of, parts),
            Rows.of(product),
            Rows.of(out),
        )
        self.reset = over_rows("gru_reset", self.struct)
        self.forward = over_rows("gru_forward", self.struct)


class NativeGruDerivative:
    """The derivative of `forward`; `backward(first, end)` and `spread(first, end)` compute some.

    `backward` finds the gradients for all but r and s'. Before `spread`, the gradient for r s' has
    to be where that for r will be.

    Args:
        gradient: for the output, (time, batch, 2 cells).
        targets: where the gradient for the input goes.
        adds: for each of them, whether it is added to what is there; for r it cannot be.
        before_tanh: is overwritten with the gradient for what the tanh is taken of, (time, batch,
            cells); the target for x_h itself, or one of its own if there is more added to that.
        repair: self-repair's scales of h, (cells,) float32, read at each call; or None.

    Attributes:
        sums: the gradient for the weights so far, (cells,), float64.
    """

    def __init__(
        self,
        forward: NativeGru,
        gradient: Tensor,
        targets: GruParts,
        adds: Sequence[bool],
        before_tanh: Tensor,
        repair: Tensor | None,
    ) -> None:
        cells, threads = forward.struct.cells, forward.struct.threads
        flags = (*adds, False, False)[: len(targets)]
        self.sums = torch.zeros(cells, dtype=torch.float64)
        scratch = gradient.new_empty((threads, cells))
        struct = _GruDerivative(
            forward.struct,
            Rows.of(gradient),
            *map(_GruTarget, map(Rows.of, targets), flags),
            Rows.of(before_tanh),
            repair,
            self.sums,
            scratch,
        )
        self.backward = over_rows("gru_backward", struct)
        self.spread = over_rows("gru_spread", struct)
