"""The whole loop of an LSTM layer with a projection, in place, in one launch each way.

A row is one time of one sequence; rows are time-major. The state (c, r) of a row comes from the row
`width` earlier (later, if `reverse`): a delay of 3 frames at 64 sequences makes steps of 192 rows
that do not depend on each other. For each row, with the state (c, r) that it reads,

(i, f, g, o) = x_gates + W_r r,  x_previous = c
c' = sigmoid(f + w_fc c) c + sigmoid(i + w_ic c) tanh(g),  m = sigmoid(o + w_oc c') tanh(c')
y = W_p m + b_p,  and its own state is scale * (c', first columns of y)

with y = m where there is no projection. In the derivative, the gradient for a state row is scaled
down to a norm, or set to zero at boundaries (nnet3's BackpropTruncationComponent), and terms that
repair saturated units are added (nnet3's LstmNonlinearityComponent).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nnet.kernels.implementation import Implementation, uses_triton


@dataclass(frozen=True, eq=False)
class LstmLoop:
    """What a loop computes with and where it writes; all float32 and contiguous.

    Attributes:
        x: (rows, 5 C), gates from outside the loop; what is read of the state is added.
        out: (rows, 2 C), c' and m.
        y: (rows, Y), or None without a projection.
        states: (rows before, rows, rows after; C + R): zeros where no row writes.
        first: the row of `states` that row 0 writes.
        width: rows of a step; row j reads the state of row j - width, or j + width if `reverse`.
        w_r: (4 C, R). w_p: (Y, C). b_p: (Y,). peepholes: (3, C), those of i, f and o.
        scale: of the states.
    """

    x: Tensor
    out: Tensor
    y: Tensor | None
    states: Tensor
    first: int
    width: int
    reverse: bool
    w_r: Tensor
    peepholes: Tensor
    w_p: Tensor | None = None
    b_p: Tensor | None = None
    scale: float = 1.0

    @property
    def cells(self) -> int:
        """C."""
        return self.peepholes.shape[1]

    @property
    def rows(self) -> int:
        return self.x.shape[0]

    @property
    def before(self) -> int:
        """The row of `states` that row 0 reads."""
        return self.first + (self.width if self.reverse else -self.width)

    def steps(self) -> Iterator[tuple[int, int]]:
        """The rows `first` up to `end` of each step."""
        for start in range(0, self.rows, self.width):
            end = min(self.rows, start + self.width)
            yield (self.rows - end, self.rows - start) if self.reverse else (start, end)


@dataclass(frozen=True, eq=False)
class LstmGradients:
    """Gradients of a loop; all float32 and contiguous.

    Attributes:
        out, y: those for c' and m, and for y, from outside; that for y gets the rest added.
        x: made, (rows, 5 C).
        norms: made: the 2-norm of each row's gradient for its state, (rows,).
        threshold: to which norms are scaled down; 0 for none.
        boundaries: rows where norms above `zeroing` make the gradient zero, bool (rows,), or None.
        repair: (5, C), by unit for i, f, g, o and tanh c', or None.
    """

    out: Tensor
    y: Tensor | None
    x: Tensor
    norms: Tensor
    threshold: float = 0.0
    zeroing: float = 0.0
    boundaries: Tensor | None = None
    repair: Tensor | None = None


def lstm_loop_forward(loop: LstmLoop, *, implementation: Implementation = "reference") -> None:
    """Fills in `x`, `out`, `y` and `states`."""
    if uses_triton(implementation, loop.x):
        from nnet.kernels.gpu.lstm_loop import launch_forward

        launch_forward(loop)
        return
    for first, end in loop.steps():
        _step(loop, slice(first, end))


def lstm_loop_backward(
    loop: LstmLoop, gradients: LstmGradients, *, implementation: Implementation = "reference"
) -> None:
    """The derivative, after the forward pass; gradients for weights remain to be made of it."""
    if uses_triton(implementation, loop.x):
        from nnet.kernels.gpu.lstm_loop_gradient import launch_backward

        launch_backward(loop, gradients)
        return
    of_states = torch.zeros_like(loop.states)
    for first, end in reversed(list(loop.steps())):
        _step_back(loop, gradients, of_states, slice(first, end))


def _read(loop: LstmLoop, rows: slice) -> slice:
    return slice(rows.start + loop.before, rows.stop + loop.before)


def _own(loop: LstmLoop, rows: slice) -> slice:
    return slice(rows.start + loop.first, rows.stop + loop.first)


def _step(loop: LstmLoop, rows: slice) -> None:
    c = loop.cells
    state = loop.states[_read(loop, rows)]
    x, out = loop.x[rows], loop.out[rows]
    x[:, : 4 * c].addmm_(state[:, c:], loop.w_r.t())
    x[:, 4 * c :] = state[:, :c]
    i, f, g = _gates(loop, x)
    out[:, :c] = f * state[:, :c] + i * g
    o, m = _output(loop, x, out)
    out[:, c:] = o * m
    projected = out[:, c:]
    if loop.y is not None and loop.w_p is not None:
        projected = out[:, c:] @ loop.w_p.t()
        loop.y[rows] = projected if loop.b_p is None else projected + loop.b_p
        projected = loop.y[rows]
    own = loop.states[_own(loop, rows)]
    own[:, :c] = loop.scale * out[:, :c]
    own[:, c:] = loop.scale * projected[:, : own.shape[1] - c]


def _output(loop: LstmLoop, x: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """The output gate and the tanh of the cell, which must be there."""
    c = loop.cells
    cell = out[:, :c]
    return torch.sigmoid(x[:, 3 * c : 4 * c] + loop.peepholes[2] * cell), cell.tanh()


def _gates(loop: LstmLoop, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gates i and f, and the tanh of g, of whole rows of x."""
    i, f, g, _, previous = x.unflatten(1, (5, loop.cells)).unbind(1)
    i = torch.sigmoid(i + loop.peepholes[0] * previous)
    return i, torch.sigmoid(f + loop.peepholes[1] * previous), g.tanh()


def _step_back(loop: LstmLoop, gradients: LstmGradients, of_states: Tensor, rows: slice) -> None:
    c = loop.cells
    own = of_states[_own(loop, rows)]
    norms = torch.linalg.vector_norm(own, dim=1)
    gradients.norms[rows] = norms
    own = own * _truncation(loop, gradients, norms, rows).unsqueeze(1)
    of_cell, of_output = gradients.out[rows].split(c, 1)
    if gradients.y is not None and loop.w_p is not None:
        gradients.y[rows, : own.shape[1] - c] += own[:, c:]
        of_output = of_output + gradients.y[rows] @ loop.w_p
    else:
        of_output = of_output + own[:, c:]
    i, f, g = _gates(loop, loop.x[rows])
    o, m = _output(loop, loop.x[rows], loop.out[rows])
    previous = loop.x[rows, 4 * c :]
    w_ic, w_fc, w_oc = loop.peepholes
    repair = gradients.repair
    push = [torch.zeros(())] * 5
    if repair is not None:
        parts = (2 * i - 1, 2 * f - 1, g, 2 * o - 1, m)
        push = [scale * part for scale, part in zip(repair, parts, strict=True)]
    to_o = of_output * m * o * (1 - o)
    of_cell = of_cell + own[:, :c] + of_output * o * (1 - m * m) + to_o * w_oc
    of_cell = of_cell + push[3] * w_oc + push[4]
    to_i, to_f = of_cell * g * i * (1 - i) + push[0], of_cell * previous * f * (1 - f) + push[1]
    to_g, to_o = of_cell * i * (1 - g * g) + push[2], to_o + push[3]
    to_previous = of_cell * f + to_i * w_ic + to_f * w_fc
    gradients.x[rows] = torch.cat((to_i, to_f, to_g, to_o, to_previous), dim=1)
    read = of_states[_read(loop, rows)]
    read[:, :c] = to_previous
    read[:, c:] = gradients.x[rows, : 4 * c] @ loop.w_r


def _truncation(loop: LstmLoop, gradients: LstmGradients, norms: Tensor, rows: slice) -> Tensor:
    """What the gradient for the state of each row is multiplied by."""
    norms = norms * abs(loop.scale)
    factors = torch.full_like(norms, loop.scale)
    if gradients.threshold > 0:
        factors = factors / (norms / gradients.threshold).clamp_min(1)
    if gradients.boundaries is not None:
        factors = factors.masked_fill(gradients.boundaries[rows] & (norms > gradients.zeroing), 0)
    return factors
