"""Supervision for LF-MMI: which pdf sequences agree with an utterance's alignment or transcript.

Povey et al. 2016: a phone may begin and end a little earlier or later than aligned. Kaldi's
chain-supervision.cc, chain-get-supervision, nnet3-chain-get-egs and nnet3-chain-e2e-get-egs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnet.data.chain.den_graph import check_phones, with_pdfs
from nnet.data.chain.expansion import PhoneHmms, expanded
from nnet.data.phone_alignments import PhoneAlignment
from nnet.errors import NnetError
from nnet.fst.compose import Composer
from nnet.fst.determinize import determinized, minimized
from nnet.fst.epsilon import without_epsilons
from nnet.fst.states import acceptor, connected, linear_acceptor
from nnet.modelfile.chain_examples import Supervision
from nnet.modelfile.fst import Fst
from nnet.modelfile.fst_paths import breadth_first, state_times


class NoSupervisionError(NnetError):
    """There is no way through an utterance or a chunk of it; Kaldi leaves it out."""


@dataclass(frozen=True)
class Tolerance:
    """How far phones may move from where they are aligned; the defaults are Kaldi's.

    Args:
        left: input frames that a phone may begin earlier.
        right: input frames that it may end later.
        subsampling: input frames for each output frame.
    """

    left: int = 5
    right: int = 5
    subsampling: int = 1

    def __post_init__(self) -> None:
        if min(self.left, self.right) < 0 or self.left + self.right + 1 < self.subsampling:
            raise NnetError(
                f"--left-tolerance={self.left} and --right-tolerance={self.right} are too small: "
                f"expected 0 or more, and together at least {self.subsampling - 1} with "
                f"--frame-subsampling-factor={self.subsampling}"
            )


def alignment_supervision(
    alignment: PhoneAlignment, hmms: PhoneHmms, tolerance: Tolerance
) -> Supervision:
    """The supervision of a whole utterance, without weights, at the rate of the output.

    Raises:
        NoSupervisionError: there are more phones than output frames for them.
        NnetError: a phone has no HMM.
    """
    phones = linear_acceptor(alignment.phones)
    check_phones(phones, hmms)
    graph = expanded(phones, hmms, transition_scale=0.0)
    allowed = _allowed_phones(alignment, tolerance)
    return Supervision(1.0, 1, len(allowed), hmms.num_pdfs, (_timed(graph, hmms, allowed),))


def _allowed_phones(alignment: PhoneAlignment, tolerance: Tolerance) -> list[set[int]]:
    """The phones that may be spoken in each output frame."""
    step = tolerance.subsampling
    ends = np.cumsum(alignment.durations)
    first = np.maximum(0, ends - alignment.durations - tolerance.left)
    last = np.minimum(ends[-1], ends + tolerance.right)
    allowed: list[set[int]] = [set() for _ in range(-(-len(alignment) // step))]
    spans = zip(
        alignment.phones.tolist(), (-(-first // step)).tolist(), (-(-last // step)).tolist(),
        strict=True,
    )  # fmt: skip
    for phone, begin, end in spans:
        for frame in range(begin, end):
            allowed[frame].add(phone)
    return allowed


def _timed(graph: Fst, hmms: PhoneHmms, allowed: Sequence[set[int]]) -> Fst:
    """A graph of transition-ids spread out over frames, with pdfs + 1 as labels."""
    begins, transitions = graph.offsets.tolist(), graph.ilabels.tolist()
    nextstates, finals = graph.nextstates.tolist(), np.isfinite(graph.finals).tolist()
    phones, pdfs = hmms.ids.phones.tolist(), hmms.ids.pdfs.tolist()
    layer = {graph.start: 0}
    count = 1
    arcs: list[tuple[int, int, int]] = []
    for here in allowed:
        following: dict[int, int] = {}
        for state, number in layer.items():
            for arc in range(begins[state], begins[state + 1]):
                if phones[transitions[arc]] not in here:
                    continue
                target = nextstates[arc]
                if target not in following:
                    following[target] = count
                    count += 1
                arcs.append((number, pdfs[transitions[arc]] + 1, following[target]))
        layer = following
    ends = np.full(count, np.inf)
    ends[[number for state, number in layer.items() if finals[state]]] = 0.0
    sources, labels, targets = np.array(arcs, np.int64).reshape(-1, 3).T
    timed = connected(acceptor(0, ends, sources, labels, np.zeros(len(arcs)), targets))
    if timed.start < 0:
        raise NoSupervisionError(
            f"{len(allowed)} output frames are too few for the phones of the utterance"
        )
    return breadth_first(timed)


class SupervisionCutter:
    """Cuts the supervision of an utterance into chunks with weights.

    Args:
        supervision: of one utterance, from an alignment.
        normalization: what composes with the normalization graph; None for chunks without weights.
    """

    def __init__(self, supervision: Supervision, normalization: Composer | None) -> None:
        self._supervision = supervision
        self._normalization = normalization
        self._fst = supervision.fsts[0]
        self._times = state_times(self._fst, supervision.frames)

    def chunk(self, start: int, frames: int) -> Supervision:
        """Output frames `start` up to `start + frames`.

        Raises:
            NoSupervisionError: the normalization graph accepts nothing of it (its language model
                was not estimated from this alignment).
        """
        fst = self._cut(start, start + frames)
        if self._normalization is not None:
            fst = weighted(fst, self._normalization)
        supervision = self._supervision
        return Supervision(supervision.weight, 1, frames, supervision.label_dim, (fst,))

    def _cut(self, begin: int, end: int) -> Fst:
        """A new start state has the arcs of all states at `begin`; all arcs that reach `end` lead
        to one final state."""
        fst, times = self._fst, self._times
        first, last = np.searchsorted(times, (begin, end))
        arcs = slice(int(fst.offsets[first]), int(fst.offsets[last]))
        sources = np.where(times[fst.sources[arcs]] == begin, 0, fst.sources[arcs] - first + 1)
        final = int(last - first) + 1
        targets = np.where(fst.nextstates[arcs] >= last, final, fst.nextstates[arcs] - first + 1)
        finals = np.full(final + 1, np.inf)
        finals[final] = 0.0
        return breadth_first(
            acceptor(0, finals, sources, fst.ilabels[arcs], fst.weights[arcs], targets)
        )


def weighted(fst: Fst, normalization: Composer) -> Fst:
    """A supervision's acceptor with the weights that its paths have in the denominator graph.

    So the objective, numerator minus denominator, cannot be positive.

    Raises:
        NoSupervisionError: the normalization graph accepts nothing of it.
    """
    composed = normalization(minimized(determinized(fst)))
    if composed.start < 0:
        raise NoSupervisionError("the normalization graph accepts nothing of the supervision")
    return breadth_first(minimized(determinized(composed)))


def end_to_end_supervision(
    graph: Fst, frames: int, hmms: PhoneHmms, normalization: Composer | None
) -> Supervision:
    """The supervision of a whole utterance from its training graph, without an alignment.

    Args:
        graph: an FST with transition-ids as input labels, as compile-train-graphs makes it.
        frames: output frames of the utterance.
        hmms: of the transition model whose transition-ids they are.
        normalization: what composes with the normalization graph; None for no weights.

    Raises:
        NoSupervisionError: the utterance is too short for the graph, or the normalization graph
            accepts nothing of it.
        NnetError: the graph has labels that are no transition-ids.
    """
    largest = len(hmms.ids.pdfs) - 1
    if not graph.num_arcs or not 0 <= graph.ilabels.min() <= graph.ilabels.max() <= largest:
        raise NnetError(f"expected a training graph with transition-ids up to {largest}")
    fst = with_pdfs(without_epsilons(graph), hmms)
    if normalization is not None:
        fst = normalization(fst)
    if fst.start < 0:
        raise NoSupervisionError("the normalization graph accepts nothing of the training graph")
    if (needed := shortest_path_length(fst)) > frames:
        raise NoSupervisionError(f"the graph needs {needed} output frames, there are {frames}")
    return Supervision(1.0, 1, frames, hmms.num_pdfs, (fst,), end_to_end=True)


def shortest_path_length(fst: Fst) -> int:
    """The fewest arcs from the start to a final state of a connected acceptor."""
    is_final = np.isfinite(fst.finals)
    here = np.zeros(fst.num_states, bool)
    here[fst.start] = True
    length = 0
    while not (here & is_final).any():
        reached = here.copy()
        reached[fst.nextstates[here[fst.sources]]] = True
        if (reached == here).all():
            raise NnetError("a graph has no path to a final state")
        here, length = reached, length + 1
    return length
