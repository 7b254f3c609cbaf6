"""The word sequence of a lattice that is nearest to the right one (lattice-oracle)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnet.errors import NnetError
from nnet.modelfile.lattices import CompactLattice, Lattice, LatticeArcs
from nnet.speech.lattices.paths import topological

Step = tuple[int, int, int, int]
"""Word of the lattice and of the reference (0 for none), node and words of the reference before."""


@dataclass(frozen=True)
class Oracle:
    """The nearest path.

    Args:
        words: of the lattice.
        errors: how many substitutions, insertions and deletions make it the reference.
    """

    words: tuple[int, ...]
    errors: int


def oracle(lattice: Lattice | CompactLattice, reference: list[int]) -> Oracle:
    """The path with the fewest errors against a reference; costs do not count.

    Raises:
        NnetError: the lattice has no path.
    """
    lattice = topological(lattice)
    size = len(reference)
    table = np.full((lattice.num_states, size + 1), np.inf)
    came: dict[tuple[int, int], Step] = {}
    if lattice.num_states:
        table[lattice.start, 0] = 0
    for state in range(lattice.num_states):
        row = table[state]
        for q in range(size):  # words of the reference that are missing here
            if row[q] + 1 < row[q + 1]:
                row[q + 1] = row[q] + 1
                came[state, q + 1] = (0, reference[q], state, q)
        _leave(lattice, state, reference, table, came)
    ends = np.where(np.isfinite(lattice.final_graph_costs), table[:, size], np.inf)
    if not np.isfinite(ends).any():
        raise NnetError("the lattice has no path")
    place = (int(ends.argmin()), size)
    words: list[int] = []
    while place in came:
        word, _, state, q = came[place]
        words.insert(0, word)
        place = (state, q)
    return Oracle(tuple(word for word in words if word), int(ends.min()))


def _leave(
    lattice: LatticeArcs,
    state: int,
    reference: list[int],
    table: np.ndarray,
    came: dict[tuple[int, int], Step],
) -> None:
    """Takes the arcs of a state."""
    for arc in range(*lattice.offsets[state : state + 2].tolist()):
        word, target = int(lattice.words[arc]), int(lattice.nextstates[arc])
        for q in range(len(reference) + 1):
            errors = table[state, q]
            if errors + bool(word) < table[target, q]:
                table[target, q] = errors + bool(word)
                came[target, q] = (word, 0, state, q)
            if word and q < len(reference):
                wrong = errors + (word != reference[q])
                if wrong < table[target, q + 1]:
                    table[target, q + 1] = wrong
                    came[target, q + 1] = (word, reference[q], state, q)
