"""The FSTs of supervisions as the arrays by which all frames' paths are summed up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nnet.kernels.chain.numerator import NumeratorGraphs
from nnet.modelfile.chain_examples import Supervision
from nnet.modelfile.fst import Fst
from nnet.modelfile.fst_paths import state_times

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]

SAME = 1e-4  # nats by which differences of costs may differ


def numerator_graphs(supervision: Supervision) -> NumeratorGraphs:
    """The supervision for `nnet.kernels.chain.numerator`, for outputs (time, sequences, pdfs).

    Raises:
        NnetError: its FST is not as supervisions are.
    """
    if supervision.end_to_end:
        return _same_arcs_in_every_frame(supervision)
    return _arcs_of_each_frame(supervision)


def _same_arcs_in_every_frame(supervision: Supervision) -> NumeratorGraphs:
    fsts = supervision.fsts
    counts = [fst.num_states for fst in fsts]
    bases = np.concatenate(([0], np.cumsum(counts)))
    graphs = np.repeat(np.arange(len(fsts)), [fst.num_arcs for fst in fsts])
    initial = np.full(bases[-1], -np.inf)
    initial[bases[:-1] + [fst.start for fst in fsts]] = 0.0
    labels = np.concatenate([fst.ilabels for fst in fsts])
    return NumeratorGraphs(
        sources=_tensor(np.concatenate([fst.sources for fst in fsts]) + bases[graphs]),
        targets=_tensor(np.concatenate([fst.nextstates for fst in fsts]) + bases[graphs]),
        positions=_tensor(graphs * supervision.label_dim + labels - 1),
        weights=_tensor(-np.concatenate([fst.weights for fst in fsts]).astype(np.float64)),
        graphs=_tensor(graphs),
        initial=_tensor(initial),
        final=_tensor(-np.concatenate([fst.finals for fst in fsts]).astype(np.float64)),
        final_graphs=_tensor(np.repeat(np.arange(len(fsts)), counts)),
        arc_begins=(),
        state_counts=(int(bases[-1]),) * (supervision.frames + 1),
        num_graphs=len(fsts),
    )


def _arcs_of_each_frame(supervision: Supervision) -> NumeratorGraphs:
    """The one FST of all sequences, taken apart so that all sequences go forward together."""
    (fst,) = supervision.fsts
    sequences, frames = supervision.sequences, supervision.frames
    times = state_times(fst, sequences * frames)
    shifts = _boundary_shifts(fst, times, frames)
    period = frames if shifts is not None else sequences * frames
    entering = _Boundaries.of(fst, times, period, shifts)
    arcs = np.flatnonzero(entering.is_entered[fst.sources])
    arcs = arcs[np.argsort(times[fst.sources[arcs]] % period, kind="stable")]
    time = times[fst.sources[arcs]]
    rows = time % frames * sequences + time // frames
    return NumeratorGraphs(
        sources=_tensor(entering.places[fst.sources[arcs]]),
        targets=_tensor(entering.last_places(fst.nextstates[arcs])),
        positions=_tensor(rows * supervision.label_dim + fst.ilabels[arcs] - 1),
        weights=_tensor(-fst.weights[arcs].astype(np.float64)),
        graphs=_tensor(time // period),
        initial=_tensor(np.zeros(int((entering.is_entered & (times % period == 0)).sum()))),
        final=_tensor(entering.final),
        final_graphs=_tensor(entering.final_graphs),
        arc_begins=tuple(np.searchsorted(time % period, np.arange(period + 1)).tolist()),
        state_counts=entering.state_counts,
        num_graphs=sequences * frames // period,
    )


def _boundary_shifts(fst: Fst, times: Integers, frames: int) -> Doubles | None:
    """For each state between two sequences, what its arcs cost more than those of the first such.

    None if the arcs of two such states differ in more than that: then the sequences cannot be told
    apart. (In what nnet3 merges, they do not.)
    """
    shifts = np.zeros(fst.num_states)
    for time in range(frames, int(times[-1]), frames):
        states = np.flatnonzero(times == time)
        first = _arcs(fst, states[0])
        for state in states[1:]:
            arcs = _arcs(fst, state)
            same = np.array_equal(fst.ilabels[arcs], fst.ilabels[first]) and np.array_equal(
                fst.nextstates[arcs], fst.nextstates[first]
            )
            if not same:
                return None
            differences = fst.weights[arcs].astype(np.float64) - fst.weights[first]
            if np.ptp(differences) > SAME:
                return None
            shifts[state] = np.mean(differences)
    return shifts


def _arcs(fst: Fst, state: np.int64) -> slice:
    return slice(int(fst.offsets[state]), int(fst.offsets[state + 1]))


@dataclass(frozen=True, eq=False)
class _Boundaries:
    """Where states are counted, and which begin and end the parts of an FST.

    A state between two parts ends the one before, at the cost of its shift, and only the first of
    those that do so begins the next.

    Attributes:
        is_entered: whether a state is one from which arcs are followed.
        places: of these among all parts' states of the same frame.
        final_places: of the states at the ends of parts among all of these; -1 for others.
        final: log-probabilities of the states at ends.
        final_graphs: the part that each of them ends.
        state_counts: by frame, and of ends.
    """

    is_entered: NDArray[np.bool_]
    places: Integers
    final_places: Integers
    final: Doubles
    final_graphs: Integers
    state_counts: tuple[int, ...]

    @staticmethod
    def of(fst: Fst, times: Integers, period: int, shifts: Doubles | None) -> _Boundaries:
        at_boundary = times % period == 0
        is_first = np.append(True, np.diff(times) != 0)
        is_entered = (times < times[-1]) & (~at_boundary | is_first)
        ends = np.flatnonzero(at_boundary & (times > 0))
        final_places = np.full(fst.num_states, -1)
        final_places[ends] = np.arange(len(ends))
        costs = fst.finals[ends].astype(np.float64)
        inner = times[ends] < times[-1]
        if shifts is not None:
            costs[inner] = shifts[ends[inner]]
        entered = np.flatnonzero(is_entered)
        frames = times[entered] % period
        counts = np.bincount(frames, minlength=period)
        order = np.argsort(frames, kind="stable")
        places = np.full(fst.num_states, -1)
        begins = np.cumsum(counts) - counts
        places[entered[order]] = np.arange(len(entered)) - np.repeat(begins, counts)
        state_counts = (*counts.tolist(), len(ends))
        return _Boundaries(
            is_entered, places, final_places, -costs, times[ends] // period - 1, state_counts
        )

    def last_places(self, states: Integers) -> Integers:
        """Places of states as the ends of arcs."""
        return np.where(self.final_places[states] >= 0, self.final_places[states],
                        self.places[states])  # fmt: skip


def _tensor(values: NDArray[np.float64] | Integers) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
