"""Acceptors whose paths all have the same length: putting one after the other, and times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.modelfile.fst import Fst

Integers = NDArray[np.int64]


def concatenated(parts: Sequence[Fst]) -> Fst:
    """One acceptor for the parts' paths one after the other, as nnet3 merges supervisions.

    States are numbered breadth first, and the arcs of each state are in the opposite order as in
    its part: so OpenFst's removal of epsilons, by which Kaldi does it, leaves them.
    """
    sources, labels, weights, nextstates = [], [], [], []
    bases = np.concatenate(([0], np.cumsum([part.num_states for part in parts])))
    for number, part in enumerate(parts):
        base = bases[number]
        sources.append(part.sources + base)
        labels.append(part.ilabels)
        weights.append(part.weights)
        nextstates.append(part.nextstates + base)
        if number + 1 == len(parts):
            break
        following = parts[number + 1]
        begin, end = following.offsets[following.start : following.start + 2].tolist()
        ends = np.flatnonzero(np.isfinite(part.finals))
        sources.append(np.repeat(ends + base, end - begin))
        labels.append(np.tile(following.ilabels[begin:end], len(ends)))
        costs = part.finals[ends, None] + following.weights[begin:end]
        weights.append(costs.reshape(-1))
        nextstates.append(np.tile(following.nextstates[begin:end], len(ends)) + bases[number + 1])
    finals = np.full(bases[-1], np.inf, np.float32)
    finals[bases[-2] :] = parts[-1].finals
    order = np.argsort(np.concatenate(sources)[::-1], kind="stable")
    states = np.concatenate(sources)[::-1][order]
    label = np.concatenate(labels)[::-1][order]
    joined = Fst(
        parts[0].start,
        finals,
        np.searchsorted(states, np.arange(bases[-1] + 1)),
        label,
        label,
        np.concatenate(weights)[::-1][order],
        np.concatenate(nextstates)[::-1][order],
    )
    return breadth_first(joined)


def breadth_first(fst: Fst) -> Fst:
    """The same with its states numbered breadth first; states that are not reached are left out."""
    follow, begins = fst.nextstates.tolist(), fst.offsets.tolist()
    number = {fst.start: 0}
    queue = [fst.start]
    for state in queue:
        for following in follow[begins[state] : begins[state + 1]]:
            if following not in number:
                number[following] = len(queue)
                queue.append(following)
    kept = np.array(queue)
    renumbered = np.full(fst.num_states, -1, np.int64)
    renumbered[kept] = np.arange(len(kept))
    counts = np.diff(fst.offsets)[kept]
    offsets = np.concatenate(([0], np.cumsum(counts)))
    arcs = np.repeat(fst.offsets[kept] - offsets[:-1], counts) + np.arange(offsets[-1])
    labels = fst.ilabels[arcs]
    return Fst(
        0,
        fst.finals[kept],
        offsets,
        labels,
        labels if fst.is_acceptor else fst.olabels[arcs],
        fst.weights[arcs],
        renumbered[fst.nextstates[arcs]],
    )


def state_times(fst: Fst, frames: int) -> Integers:
    """The time at which each state is passed, int64 (states,).

    Args:
        fst: its start state is 0, its states are in order of time and all paths have `frames` arcs.
        frames: the length of its paths.

    Raises:
        NnetError: the FST is not like that.
    """
    times = np.full(fst.num_states, -1, np.int64)
    times[0] = 0
    begin, end = 0, 1
    for time in range(1, frames + 1):
        arcs = slice(int(fst.offsets[begin]), int(fst.offsets[end]))
        begin, end = end, int(fst.nextstates[arcs].max(initial=-1)) + 1
        times[begin:end] = time
    is_final = np.isfinite(fst.finals)
    regular = (
        fst.start == 0
        and bool((times[fst.nextstates] == times[fst.sources] + 1).all())
        and bool((np.diff(times) >= 0).all())
        and bool((times[is_final] == frames).all())
        and is_final.any()
    )
    if not regular:
        raise NnetError(
            f"the FST of a supervision is not one whose paths all have {frames} frames, with "
            "states in order of time"
        )
    return times
