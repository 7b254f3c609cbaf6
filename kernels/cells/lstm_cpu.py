"""The unit-by-unit part of LSTMs on a CPU, for steps of a loop: lstm_cpu.cpp.

    i = sigmoid(x_i + w_i c')    f = sigmoid(x_f + w_f c')    g = tanh(x_c)
    c = d_f f c' + d_i i g       o = sigmoid(x_o + w_o c)     m = tanh(c)      y = d_o o m

from [x_i, x_f, x_c, x_o], c' and dropout masks d_i, d_f, d_o to [c, y]: nnet3's
LstmNonlinearityComponent. One pass over memory forward and one back, in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_int64, c_void_p

import torch
from torch import Tensor

from nnet.kernels.native import Struct
from nnet.kernels.native_rows import Rows, over_rows

LIBRARY = "lstm_cpu"


class _Lstm(Struct):
    _fields_ = (
        ("threads", c_int64),
        ("batch", c_int64),
        ("cells", c_int64),
        ("weights", c_void_p),
        ("gates", Rows),
        ("previous", Rows),
        ("masks", Rows),
        ("output", Rows),
        ("kept", Rows),
    )


class _LstmDerivative(Struct):
    _fields_ = (
        ("forward", _Lstm),
        ("gradient", Rows),
        ("to_gates", Rows),
        ("to_previous", Rows),
        ("to_masks", Rows),
        ("repair", c_void_p),
        ("sums", c_void_p),
        ("scratch", c_void_p),
    )


class NativeLstm:
    """The cells of all rows; `forward(first, end)` computes some of them.

    Args:
        x: the inputs of the gates (time, batch, 4 cells), previous cells (time, batch, cells), and,
            if there is dropout, its masks (time, batch, 3).
        out: (time, batch, 2 cells).
        weights: peepholes of i, f and o, (3, cells).
        kept: where i, f, tanh of c and o are kept for the derivative, (time, batch, 4 cells); the
            inputs of the gates themselves, perhaps.
    """

    def __init__(
        self, x: Sequence[Tensor], weights: Tensor, out: Tensor, kept: Tensor | None
    ) -> None:
        self.weights = weights.contiguous()
        gates, previous, *masks = x
        self.struct = _Lstm(
            torch.get_num_threads(),
            gates.shape[1],
            weights.shape[1],
            self.weights,
            Rows.of(gates),
            Rows.of(previous),
            Rows.of(masks[0] if masks else None),
            Rows.of(out),
            Rows.of(kept),
        )
        self.forward = over_rows("lstm_forward", self.struct)


class NativeLstmDerivative:
    """The derivative of `forward`, whose rows were kept; `backward(first, end)` computes some.

    Args:
        gradient: for the output, (time, batch, 2 cells).
        targets: are overwritten with the gradient for the input, in its blocks; that for the gates
            may lie where their values were kept.
        repair: self-repair's scales of i, f, c, o and m, (5, cells).

    Attributes:
        peepholes: the gradient for the peepholes so far, (3, cells), float64.
        values, squares: with self-repair, sums so far of i, f, c, o and m and of their squares,
            (5, cells), float64.
    """

    def __init__(
        self,
        forward: NativeLstm,
        gradient: Tensor,
        targets: Sequence[Tensor],
        repair: Tensor | None,
    ) -> None:
        cells = forward.weights.shape[1]
        sums = torch.zeros((13, cells), dtype=torch.float64)
        self.peepholes, self.values, self.squares = sums.split((3, 5, 5))
        repair = None if repair is None else repair.to(torch.float32).contiguous()
        scratch = gradient.new_empty((forward.struct.threads, *sums.shape))
        to_gates, to_previous, *to_masks = targets
        struct = _LstmDerivative(
            forward.struct,
            Rows.of(gradient),
            Rows.of(to_gates),
            Rows.of(to_previous),
            Rows.of(to_masks[0] if to_masks else None),
            repair,
            sums,
            scratch,
        )
        self.backward = over_rows("lstm_backward", struct)
