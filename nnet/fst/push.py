"""Pushing of weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.modelfile.fst import Fst

MOST_ITERATIONS = 200
STEP = 0.1  # of the identity added to the matrix, against eigenvalues of the same magnitude


def pushed(fst: Fst, delta: float) -> Fst:
    """The FST with weights such that those out of each state sum up to the same (PushSpecial).

    The arcs' probabilities, with the final ones as if they led back to the start, are a matrix P;
    with v the vector for which P v = lambda v, the arc from i to j is multiplied by v_j / v_i.
    Every path keeps its total weight. Unlike pushing of weights in general this works for graphs
    with cycles whose weights do not sum up to one (Kaldi's fstext/push-special.cc).

    Args:
        fst: an FST with costs in nats.
        delta: how different the logarithms of the states' sums may be.

    Raises:
        NnetError: from some state no way of a probability above zero leads on.
    """
    if not fst.num_states:
        return fst
    with np.errstate(all="ignore"):
        v = _eigenvector(fst, delta)
        cost = -np.log(v)
    if not np.isfinite(cost).all():
        raise NnetError(
            "the weights of the graph cannot be pushed: its costs are too far apart, or a state "
            "leads nowhere"
        )
    return replace(
        fst,
        weights=(fst.weights + cost[fst.nextstates] - cost[fst.sources]).astype(np.float32),
        finals=(fst.finals + cost[fst.start] - cost).astype(np.float32),
    )


def _eigenvector(fst: Fst, delta: float) -> NDArray[np.float64]:
    """The vector v of `pushed`, (states,)."""
    probabilities = np.exp(-fst.weights.astype(np.float64))
    final = np.exp(-fst.finals.astype(np.float64))

    def times_matrix(v: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(fst.sources, probabilities * v[fst.nextstates], fst.num_states)
        return sums + final * v[fst.start]

    v = np.full(fst.num_states, 1 / np.sqrt(fst.num_states))
    for iteration in range(MOST_ITERATIONS):
        v = times_matrix(v) + STEP * v
        v /= np.sqrt(v @ v)
        if iteration and iteration % 5 == 0:
            sums = times_matrix(v) / v
            if np.log(sums.max() / sums.min()) <= delta:
                break
    return v
