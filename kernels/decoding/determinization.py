"""Determinization of lattices on a CPU: determinize.cpp."""

from __future__ import annotations

from ctypes import c_double, c_int64, c_void_p

import numpy as np
from numpy.typing import NDArray

from nnet.kernels.native import Address, NativeFunction, Struct, Table, loaded

COMPACT_ARC = np.dtype(
    [
        ("source", "<i4"),
        ("target", "<i4"),
        ("word", "<i4"),
        ("length", "<i4"),
        ("graph_cost", "<f4"),
        ("acoustic_cost", "<f4"),
    ]
)
"""An arc of the result; with the target -1 it is the final cost of its source."""


class _LatticeArrays(Struct):
    _fields_ = (
        ("start", c_int64),
        ("states", c_int64),
        ("offsets", c_void_p),
        ("words", c_void_p),
        ("transitions", c_void_p),
        ("nextstates", c_void_p),
        ("graph_costs", c_void_p),
        ("acoustic_costs", c_void_p),
        ("finals", c_void_p),
        ("acoustic_scale", c_double),
        ("beam", c_double),
        ("most_arcs", c_int64),
    )


_new = NativeFunction("determinize_new", _LatticeArrays, Table, result=c_void_p)
_take = NativeFunction("determinize_take", Table, Address, Address)


def determinize(
    start: int,
    offsets: NDArray[np.int64],
    words: NDArray[np.int32],
    transitions: NDArray[np.int32],
    nextstates: NDArray[np.int32],
    graph_costs: NDArray[np.float32],
    acoustic_costs: NDArray[np.float32],
    finals: NDArray[np.float32],
    *,
    acoustic_scale: float,
    beam: float,
    most_arcs: int,
) -> tuple[int, np.ndarray, NDArray[np.int32], bool] | None:
    """A lattice with one path for each sequence of words, the cheapest.

    Args:
        start: the start state.
        offsets: where the arcs of each state begin, (states + 1,).
        words: of the arcs, (arcs,); 0 is none.
        transitions: their transition-ids; 0 is none.
        nextstates: higher than the states that the arcs leave.
        graph_costs: in nats.
        acoustic_costs: in nats.
        finals: final costs of the states, (states,).
        acoustic_scale: factor of the acoustic costs where paths are compared.
        beam: how much more than the best path others may cost.
        most_arcs: when to stop.

    Returns:
        The number of states (0 is the start), arcs of type `COMPACT_ARC`, their strings of
        transition-ids one after the other, and whether it is complete. None without native code.
    """
    if loaded() is None:
        return None
    arrays = (offsets, words, transitions, nextstates, graph_costs, acoustic_costs, finals)
    held = [np.ascontiguousarray(array) for array in arrays]
    lattice = _LatticeArrays(
        start, len(finals), *(array.ctypes.data for array in held), acoustic_scale, beam, most_arcs
    )
    sizes = (c_int64 * 4)()
    handle = _new(lattice, sizes)
    states, arcs, labels, complete = sizes
    compact_arcs, strings = np.empty(arcs, COMPACT_ARC), np.empty(labels, np.int32)
    _take(handle, compact_arcs.ctypes.data, strings.ctypes.data)
    return states, compact_arcs, strings, bool(complete)
