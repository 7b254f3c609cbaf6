"""From the recurrent components of nnet1 to loops of nnet3's nodes."""

from __future__ import annotations

import numpy as np

from nnet.components.affine import Linear
from nnet.components.elementwise import PerElementScale
from nnet.components.nonlinearity import Tanh
from nnet.components.reshape import ElementwiseProduct, NoOp
from nnet.converters.assembly import (
    Assembly,
    Rates,
    append,
    before,
    negative,
    total,
    with_rate,
)
from nnet.converters.nnet1.layers import NNET1
from nnet.converters.nnet1.recurrent import AnyLstm, LstmParameters, Recurrent
from nnet.text.syntax import Descriptor, NodeName


@NNET1.of("LstmProjected", "BlstmProjected", short="lstm")
def _lstm(c: AnyLstm, source: Descriptor, to: Assembly) -> Descriptor:
    _note_clipping(c.grad_clip, c.diff_clip, to)
    to.sees_all_frames()
    outputs = []
    for direction, delay in zip(c.directions, (1, -1), strict=False):
        with to.inside(direction.rstrip("_")):
            rates = Rates(c.learn_rate, c.bias_learn_rate)
            outputs.append(
                _direction(c.parameters_of(direction), source, delay, c.cell_clip, rates, to)
            )
    return append(*outputs)


@NNET1.of("RecurrentComponent", short="recurrent")
def _recurrent(c: Recurrent, source: Descriptor, to: Assembly) -> Descriptor:
    _note_clipping(c.grad_clip, c.diff_clip, to)
    to.sees_all_frames()
    from_input = to.affine(
        source, c.linear, c.bias, Rates(c.learn_rate, c.bias_learn_rate), "input"
    )
    output = to.loop("tanh")
    recurrent = with_rate(
        Linear(linear=c.recurrent, use_natural_gradient=False), to.factor(c.learn_rate)
    )
    from_last = to.add(recurrent, before(output, 1), "recurrent")
    return to.close(output, Tanh(dim=c.output_dim), total(from_input, from_last))


def _note_clipping(grad_clip: float, diff_clip: float, to: Assembly) -> None:
    if grad_clip or diff_clip:
        to.note(
            f"gradients are not clipped (limits {grad_clip:g} and {diff_clip:g}): nnet3 limits the "
            "change of parameters"
        )


def _direction(
    p: LstmParameters, source: Descriptor, delay: int, clip: float, rates: Rates, to: Assembly
) -> NodeName:
    """One direction of an LSTM; the state is read `delay` frames ago.

    The recurrent nodes are made after the loops that they close: `cell` and `output`.
    """
    cells = p.projection.shape[1]
    from_input = to.split(to.affine(source, p.input, p.bias, rates, "input"), [cells] * 4)
    output, cell = to.loop("output"), to.loop("cell")
    recurrent = with_rate(
        Linear(linear=p.recurrent, use_natural_gradient=False), to.factor(rates.linear)
    )
    gates = to.add(recurrent, before(output, delay), "recurrent")
    from_output = to.split(gates, [cells] * 4)
    g, i, f, o = (total(*pair) for pair in zip(from_input, from_output, strict=True))
    last_cell = before(cell, delay)

    def peephole(weights: np.ndarray, seen: Descriptor, name: str) -> NodeName:
        return to.add(
            with_rate(PerElementScale(scales=weights), to.factor(rates.linear)), seen, name
        )

    i = to.sigmoid(total(i, peephole(p.peephole_i, last_cell, "peephole-i")), "i")
    f = to.sigmoid(total(f, peephole(p.peephole_f, last_cell, "peephole-f")), "f")
    written = to.product(to.tanh(g, "g"), i, "written")
    kept = to.add(
        ElementwiseProduct(input_dim=2 * cells, output_dim=cells), append(f, last_cell), "kept"
    )
    _clipped(cell, total(written, kept), cells, clip, to)
    o = to.sigmoid(total(o, peephole(p.peephole_o, cell, "peephole-o")), "o")
    made = to.product(to.tanh(cell, "h"), o, "m")
    projection = with_rate(
        Linear(linear=p.projection, use_natural_gradient=False), to.factor(rates.linear)
    )
    return to.close(output, projection, made)


def _clipped(cell: NodeName, source: Descriptor, cells: int, clip: float, to: Assembly) -> NodeName:
    """Closes `cell` with `source` between -clip and clip, exactly `source` where it is within."""
    if clip <= 0:
        return to.close(cell, NoOp(dim=cells), source)
    free = to.add(NoOp(dim=cells), source, "free-cell")
    limit = np.full(cells, -clip, np.float32)
    with to.fixed():
        above = to.relu(to.offset(free, limit, suffix="above-clip"), "above")
        below = to.relu(to.offset(negative(free), limit, suffix="below-clip"), "below")
    return to.close(cell, NoOp(dim=cells), total(free, negative(above), below))
