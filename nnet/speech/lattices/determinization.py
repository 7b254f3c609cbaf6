"""Lattices with transition-ids to compact lattices: one path for each sequence of words."""

from __future__ import annotations

import numpy as np

from nnet.errors import NnetError
from nnet.kernels.decoding.determinization import determinize
from nnet.modelfile.lattices import CompactLattice, Final, Lattice, compact_lattice
from nnet.speech.lattices.paths import connected, topological

MOST_ARCS = 200_000
"""Beyond which the beam is narrowed, as Kaldi does by --max-mem."""
NARROWER = 0.5
NARROWEST = 0.1
FINAL = -1


def determinized(lattice: Lattice, beam: float, acoustic_scale: float = 1.0) -> CompactLattice:
    """The best path of each sequence of words whose cost is near that of the best one.

    So does Kaldi's DeterminizeLatticePruned. Where the result would be huge, the beam is narrowed.

    Args:
        lattice: with transition-ids.
        beam: how much more than the best path others may cost, in nats.
        acoustic_scale: factor of the acoustic costs where paths are compared.

    Raises:
        NnetError: the lattice has cycles, or there is no native code.
    """
    lattice = topological(lattice)
    while True:
        found = determinize(
            lattice.start,
            lattice.offsets,
            lattice.words,
            lattice.transitions,
            lattice.nextstates,
            lattice.graph_costs,
            lattice.acoustic_costs,
            lattice.final_graph_costs + lattice.final_acoustic_costs,
            acoustic_scale=acoustic_scale,
            beam=beam,
            most_arcs=MOST_ARCS,
        )
        if found is None:
            raise NnetError(
                "lattices need native code, and none can run here; install nnet again where there "
                "is a C++ compiler, and do not set NNET_NATIVE=reference"
            )
        if found[3] or beam < NARROWEST:
            return _compact(*found[:3])
        beam *= NARROWER


def _compact(states: int, arcs: np.ndarray, labels: np.ndarray) -> CompactLattice:
    ends = np.cumsum(arcs["length"])
    strings = np.split(labels, ends[:-1]) if len(arcs) else []
    rows = list(zip(arcs.tolist(), strings, strict=True))
    finals: dict[int, Final] = {
        source: (graph, acoustic, string)
        for (source, target, _, _, graph, acoustic), string in rows
        if target == FINAL
    }
    kept = [
        (source, word, graph, acoustic, string, target)
        for (source, target, word, _, graph, acoustic), string in rows
        if target != FINAL
    ]
    return topological(connected(compact_lattice(states, kept, finals)))
