"""Denominator graphs and supervisions like those of real LF-MMI systems, made at random."""

from __future__ import annotations

import numpy as np
import torch

from nnet.kernels.chain.transitions import Transitions
from nnet.modelfile.chain_examples import Supervision, merge_supervisions
from nnet.modelfile.fst import Fst


def denominator_graph(
    states: int, arcs: int, pdfs: int, *, random_labels: bool = False, seed: int = 0
) -> Transitions:
    """A graph in which a state has a loop and its share of the other arcs.

    Args:
        states: their number.
        arcs: transitions in all.
        pdfs: of the output.
        random_labels: any pdf on any arc. Without it the arcs that enter a state have one pdf and
            its loop has another, as the phone's HMM says in graphs that are made of phones.
        seed: of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)

    def numbers(below: int, count: int) -> torch.Tensor:
        return torch.randint(0, below, (count,), generator=generator)

    every_state = torch.arange(states)
    sources = torch.cat((every_state, numbers(states, arcs - states)))
    targets = torch.cat((every_state, numbers(states, arcs - states)))
    labels = numbers(pdfs, arcs)
    if not random_labels:
        labels = torch.cat((labels[:states], numbers(pdfs, states)[targets[states:]]))
    probs = torch.rand(arcs, generator=generator) + 0.1
    probs /= torch.zeros(states).index_add_(0, sources, probs)[sources]
    initial = torch.full((states,), 1 / states)
    return Transitions.of(sources, targets, labels, probs, initial, pdfs)


def supervision(sequences: int, frames: int, pdfs: int, seed: int = 0) -> Supervision:
    """Chunks in which a phone's beginning is uncertain by a few frames: three states a frame."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(sequences):
        labels = rng.integers(1, pdfs + 1, frames + 3)
        arcs = [
            (
                _state(frame, place),
                int(labels[frame + next_place]),
                0.0,
                _state(frame + 1, next_place),
            )
            for frame in range(frames)
            for place in range(1 if frame == 0 else 3)
            for next_place in range(place, min(place + 2, 3))
        ]
        finals = {_state(frames, place): 0.0 for place in range(3)}
        fst = Fst.of(1 + 3 * frames, arcs, finals)
        parts.append(Supervision(1.0, 1, frames, pdfs, (fst,)))
    return merge_supervisions(parts)


def _state(frame: int, place: int) -> int:
    return 0 if frame == 0 else 1 + 3 * (frame - 1) + place
