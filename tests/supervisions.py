"""Random supervisions of LF-MMI, and all their paths one by one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nnet.modelfile.chain_examples import Supervision, merge_supervisions
from nnet.modelfile.fst import Fst
from nnet.modelfile.fst_paths import breadth_first


def lattice(frames: int, pdfs: int, rng: np.random.Generator) -> Fst:
    """An acceptor whose paths all have `frames` arcs, with one to three states a frame."""
    counts = [1, *rng.integers(1, 4, frames).tolist()]
    begins = np.cumsum([0, *counts])
    arcs = []
    for frame in range(frames):
        for state in range(begins[frame], begins[frame + 1]):
            for target in range(begins[frame + 1], begins[frame + 2]):
                for _ in range(1 + int(rng.integers(2))):
                    label = int(rng.integers(1, pdfs + 1))
                    arcs.append((state, label, float(rng.normal()), target))
    finals = {state: float(rng.normal()) for state in range(begins[-2], begins[-1])}
    return breadth_first(Fst.of(int(begins[-1]), arcs, finals))


def cyclic(states: int, pdfs: int, rng: np.random.Generator) -> Fst:
    """An acceptor with a loop at each state and arcs to the next ones; the last is final."""
    arcs = []
    for state in range(states):
        for target in range(state, min(state + 3, states)):
            arcs.append((state, int(rng.integers(1, pdfs + 1)), float(rng.normal()), target))
    return Fst.of(states, arcs, {states - 1: float(rng.normal()), states - 2: 0.5})


def random_supervision(
    sequences: int, frames: int, pdfs: int, seed: int, *, end_to_end: bool, weight: float = 1.0
) -> Supervision:
    """A merged supervision."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(sequences):
        fst = cyclic(2 + frames // 2, pdfs, rng) if end_to_end else lattice(frames, pdfs, rng)
        parts.append(Supervision(weight, 1, frames, pdfs, (fst,), end_to_end))
    return merge_supervisions(parts)


def log_prob_of_paths(output: Tensor, fsts: tuple[Fst, ...]) -> Tensor:
    """The log-probability of acceptors one after the other, by a walk over all states at once.

    Args:
        output: (time, pdfs) in the order of the paths' arcs; split evenly among the acceptors.
        fsts: the acceptors.
    """
    total = output.new_zeros(())
    frames = len(output) // len(fsts)
    for number, fst in enumerate(fsts):
        alpha: list[Tensor | None] = [None] * fst.num_states
        alpha[fst.start] = output.new_zeros(())
        for row in output[number * frames : (number + 1) * frames]:
            found: list[list[Tensor]] = [[] for _ in alpha]
            for source, label, cost, target in zip(
                fst.sources, fst.ilabels, fst.weights, fst.nextstates, strict=True
            ):
                before = alpha[source]
                if before is not None:
                    found[target].append(before + row[label - 1] - float(cost))
            alpha = [torch.stack(paths).logsumexp(0) if paths else None for paths in found]
        ends = [
            before - float(cost)
            for before, cost in zip(alpha, fst.finals, strict=True)
            if before is not None and np.isfinite(cost)
        ]
        total = total + torch.stack(ends).logsumexp(0)
    return total
