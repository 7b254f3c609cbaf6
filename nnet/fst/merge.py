"""Merging of states that cannot be told apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nnet.fst.states import acceptor, connected
from nnet.modelfile.fst import Fst

Classes = NDArray[np.int64]
Hashes = NDArray[np.uint64]


def quantized(weights: NDArray[np.floating], delta: float) -> NDArray[np.float32]:
    """Weights rounded to multiples of `delta` (OpenFst's Quantize); infinite ones stay."""
    step = np.float32(delta)
    values = np.asarray(weights, np.float32)
    return np.floor(values / step + np.float32(0.5)) * step


def merged(fst: Fst, delta: float) -> Fst:
    """The acceptor with states of the same future merged; no weight is moved along a path.

    Weights are first rounded to multiples of `delta`. States are the same if they are equally
    final and have arcs with the same labels and weights to states that are the same.
    """
    fst = connected(
        replace(fst, weights=quantized(fst.weights, delta), finals=quantized(fst.finals, delta))
    )
    if fst.start < 0:
        return fst
    classes = _classes(fst)
    _, first = np.unique(classes, return_index=True)  # a state of each class
    chosen = np.zeros(fst.num_states, bool)
    chosen[first] = True
    arcs = np.flatnonzero(chosen[fst.sources])
    table = np.stack(
        (
            classes[fst.sources[arcs]],
            fst.ilabels[arcs],
            fst.weights[arcs].view(np.int32).astype(np.int64),
            classes[fst.nextstates[arcs]],
        ),
        1,
    )
    _, kept = np.unique(table, axis=0, return_index=True)
    kept.sort()
    arcs = arcs[kept]
    return acceptor(
        int(classes[fst.start]),
        fst.finals[first],
        classes[fst.sources[arcs]],
        fst.ilabels[arcs],
        fst.weights[arcs],
        classes[fst.nextstates[arcs]],
    )


def _classes(fst: Fst) -> Classes:
    """The class of each state, by refinement until all states of a class are alike."""
    arcs = _mixed(fst.ilabels, fst.weights.view(np.uint32))
    final = _mixed(fst.finals.view(np.uint32))
    classes = np.unique(final, return_inverse=True)[1]
    count = int(classes.max(initial=-1)) + 1
    while True:
        keys = _mixed(arcs, classes[fst.nextstates])
        pairs = np.unique(np.stack((fst.sources.astype(np.uint64), keys), 1), axis=0)
        futures = np.zeros(fst.num_states, np.uint64)
        np.add.at(futures, pairs[:, 0].astype(np.int64), pairs[:, 1])
        _, classes = np.unique(_mixed(classes, futures), return_inverse=True)
        if classes.max(initial=-1) + 1 == count:
            return classes
        count = int(classes.max()) + 1


def _mixed(*columns: NDArray[np.generic]) -> Hashes:
    """A hash of 64 bits of each row (splitmix64)."""
    state = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        state = (state ^ column.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state
