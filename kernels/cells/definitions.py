"""What LSTMs and GRUs compute unit by unit, and nowhere else: as operations of a recurrence.

`nnet.kernels.recurrence.gradient` finds their derivatives, and they run as plain torch
(`nnet.kernels.recurrence.run`), as Triton (`nnet.kernels.recurrence.gpu`) and as C++ (`cells.cpp`,
which `python -m tools.render_cells` writes). Loops that are recurrences as a whole are made of them
too (`nnet.plan.recurrence`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nnet.kernels.recurrence.program import Builder, FunctionName, Id, Multiply, Scaled

Weigh = Callable[[Id, int], Id]
"""Columns times a vector of weights, by its number in the cell."""
Bend = Callable[[FunctionName, Id, int], Id]
"""A nonlinearity, by its number in the cell's statistics."""


def lstm(
    builder: Builder,
    gates: Sequence[Id],
    previous: Id,
    weigh: Weigh,
    bend: Bend,
    masks: Sequence[Id] = (),
) -> tuple[Id, Id]:
    """An LSTM with peepholes (Sak et al., Interspeech 2014), nnet3's LstmNonlinearityComponent.

        i = sigmoid(x_i + w_i c')    f = sigmoid(x_f + w_f c')    g = tanh(x_g)
        c = d_f f c' + d_i i g       o = sigmoid(x_o + w_o c)     m = d_o o tanh(c)

    Args:
        gates: x_i, x_f, x_g and x_o.
        previous: c'.
        masks: d_i, d_f and d_o, numbers of the row; none without dropout.

    Returns:
        c and m.
    """
    dim = builder.dim(previous)

    def gate(of: Id, cell: Id, peephole: int, unit: int) -> Id:
        total = builder.total([(of, 1.0), (weigh(cell, peephole), 1.0)])
        opened = bend("sigmoid", total, unit)
        return builder.add(Scaled(dim, opened, masks[peephole])) if masks else opened

    i, f, g, o = gates
    candidate = bend("tanh", g, 2)
    entering = builder.add(Multiply(dim, gate(i, previous, 0, 0), candidate))
    kept = builder.add(Multiply(dim, gate(f, previous, 1, 1), previous))
    cell = builder.total([(kept, 1.0), (entering, 1.0)])
    output_gate = gate(o, cell, 2, 3)
    return cell, builder.add(Multiply(dim, output_gate, bend("tanh", cell, 4)))


def gru(builder: Builder, update: Id, inner: Id, previous: Id, bend: Bend) -> tuple[Id, Id]:
    """The part that GRUs with a reset gate or an output gate share, of nnet3's
    GruNonlinearityComponent and OutputGruNonlinearityComponent.

        h = tanh(inner)    c = h + z (c' - h)

    Args:
        update: z.
        inner: x_h, and what feeds back: w c' unit by unit, or W (r s').
        previous: c'.

    Returns:
        h and c.
    """
    h = bend("tanh", inner, 0)
    dim = builder.dim(previous)
    away = builder.total([(previous, 1.0), (h, -1.0)])
    return h, builder.total([(h, 1.0), (builder.add(Multiply(dim, update, away)), 1.0)])
