"""Forward-backward over the supervisions of LF-MMI, which say what was spoken.

These graphs are small and their paths few, so that all is done with logarithms, in float64. All
graphs of a minibatch go forward together, one frame at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class NumeratorGraphs:
    """The supervision graphs of a minibatch, all frames of them or one frame for all.

    Attributes:
        sources: states that the arcs leave, int64 (arcs,), counted within their frame.
        targets: states that they enter, counted within the next frame.
        positions: element of the output (time, sequences, pdfs) that each arc takes, counted from
            the beginning of the output (or of a frame, where all frames have the same arcs).
        weights: log-probabilities of the arcs, float64 (arcs,).
        graphs: to which graph each arc belongs, int64 (arcs,).
        initial: log-probabilities of the states of the first frame, float64.
        final: log-probabilities of the states after the last frame, float64.
        final_graphs: to which graph these belong, int64.
        arc_begins: where the arcs of each frame begin, ints (frames + 1,); empty where all frames
            have the same arcs.
        state_counts: states of each frame and after the last, ints (frames + 1,).
        num_graphs: the number of graphs; of sequences, mostly.
    """

    sources: Tensor
    targets: Tensor
    positions: Tensor
    weights: Tensor
    graphs: Tensor
    initial: Tensor
    final: Tensor
    final_graphs: Tensor
    arc_begins: tuple[int, ...]
    state_counts: tuple[int, ...]
    num_graphs: int

    def each(self, change: Callable[[Tensor], Tensor]) -> NumeratorGraphs:
        """The graphs with every tensor changed."""
        return replace(
            self,
            sources=change(self.sources),
            targets=change(self.targets),
            positions=change(self.positions),
            weights=change(self.weights),
            graphs=change(self.graphs),
            initial=change(self.initial),
            final=change(self.final),
            final_graphs=change(self.final_graphs),
        )

    @property
    def frames(self) -> int:
        return len(self.state_counts) - 1

    def arcs_of(self, frame: int) -> slice:
        if not self.arc_begins:
            return slice(None)
        return slice(*self.arc_begins[frame : frame + 2])


class Numerator(NamedTuple):
    """What the recursions give.

    Attributes:
        log_probs: of each graph, float64 (graphs,).
        positions: elements of the output (time, sequences, pdfs), int64; some repeatedly.
        posteriors: that belong there, float64.
    """

    log_probs: Tensor
    positions: Tensor
    posteriors: Tensor


def numerator(output: Tensor, graphs: NumeratorGraphs) -> Numerator:
    """The log-probability of each graph, and its derivative by `output`: posteriors of pdfs.

    Autograd takes no part; `nnet.kernels.chain.lfmmi.lfmmi` hands it the posteriors.

    Args:
        output: pseudo log-likelihoods (time, sequences, pdfs).
        graphs: on the same device.
    """
    if graphs.arc_begins:
        positions = graphs.positions
    else:
        frame_starts = torch.arange(output.shape[0], device=output.device) * output[0].numel()
        positions = frame_starts[:, None] + graphs.positions
    scores = output.reshape(-1)[positions].double() + graphs.weights
    alphas = _forward(scores, graphs)
    finals = alphas[-1] + graphs.final
    log_probs = _log_sums(finals, graphs.final_graphs, graphs.num_graphs)
    beta = graphs.final - log_probs[graphs.final_graphs]
    posteriors = torch.empty_like(scores)
    for frame in reversed(range(graphs.frames)):
        arcs = graphs.arcs_of(frame)
        sources = graphs.sources[arcs]
        onward = beta[graphs.targets[arcs]] + _of_frame(scores, graphs, frame)
        _of_frame(posteriors, graphs, frame).copy_(alphas[frame][sources] + onward)
        beta = _log_sums(onward, sources, graphs.state_counts[frame])
    return Numerator(log_probs, positions.reshape(-1), posteriors.exp_().reshape(-1))


def _forward(scores: Tensor, graphs: NumeratorGraphs) -> list[Tensor]:
    """Log-probabilities of the states of every frame and after the last."""
    alphas = [graphs.initial]
    for frame in range(graphs.frames):
        arcs = graphs.arcs_of(frame)
        paths = alphas[-1][graphs.sources[arcs]] + _of_frame(scores, graphs, frame)
        alphas.append(_log_sums(paths, graphs.targets[arcs], graphs.state_counts[frame + 1]))
    return alphas


def _of_frame(of_arcs: Tensor, graphs: NumeratorGraphs, frame: int) -> Tensor:
    return of_arcs[graphs.arcs_of(frame)] if graphs.arc_begins else of_arcs[frame]


def _log_sums(values: Tensor, index: Tensor, count: int) -> Tensor:
    """The logarithms of sums of exponentials of those values that have the same index."""
    peaks = values.new_full((count,), -torch.inf)
    peaks.scatter_reduce_(0, index, values, "amax")
    peaks.masked_fill_(peaks == -torch.inf, 0.0)
    sums = values.new_zeros(count).index_add_(0, index, (values - peaks[index]).exp_())
    return sums.log_().add_(peaks)
