"""Decoding: the best paths through a graph given log-likelihoods of frames.

The search is Kaldi's LatticeFasterDecoder, on a whole graph (HCLG) or on a graph without the
language model that is composed with it on the way (HCLr and Gr, as in Kaldi's lookahead
programs and Vosk's models with a dynamic graph).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.kernels.decoding.cpu import (
    CYCLE,
    ENDLESS,
    NO_TOKENS,
    NativeSearch,
    SearchArrays,
    can_search,
)
from nnet.modelfile.graph_files import DecodingGraph
from nnet.modelfile.lattices import Lattice
from nnet.modelfile.lookahead import LookaheadGraph
from nnet.modelfile.ngram_fst import NgramModel
from nnet.modelfile.transition_ids import TransitionIds

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]
MOST_ACTIVE = 2**31 - 1
NO_FRAME = -1

FAILURES = {
    NO_TOKENS: "no path is left; expected: a graph and log-likelihoods of the same system, or a "
    "wider --beam",
    ENDLESS: "the graph has cycles of arcs without frames whose cost is negative; build it anew",
    CYCLE: "the graph has cycles of arcs without frames that cost nothing; build it anew",
}


@dataclass(frozen=True)
class DecoderOptions:
    """Options of a search; the names and the defaults are Kaldi's.

    Args:
        beam: how much more than the best path others may cost, in nats.
        max_active: how many tokens a frame may have.
        min_active: how many it keeps at least.
        lattice_beam: how much more than the best path others in the lattice may cost.
        prune_interval: frames between prunings of the lattice.
        beam_delta: what a beam that was narrowed is widened by.
        prune_scale: how exactly the lattice is pruned on the way.
        acoustic_scale: factor of the log-likelihoods.
    """

    beam: float = 16.0
    max_active: int = MOST_ACTIVE
    min_active: int = 200
    lattice_beam: float = 10.0
    prune_interval: int = 25
    beam_delta: float = 0.5
    prune_scale: float = 0.1
    acoustic_scale: float = 0.1

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            NnetError: one cannot be.
        """
        positive = ("beam", "max_active", "lattice_beam", "prune_interval", "acoustic_scale")
        for name in positive:
            if not getattr(self, name) > 0:
                raise NnetError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)}; expected more than 0"
                )
        if not 0 <= self.min_active <= self.max_active:
            raise NnetError(
                f"--min-active is {self.min_active}; expected from 0 to --max-active "
                f"({self.max_active})"
            )
        if not (self.beam_delta > 0 and 0 < self.prune_scale < 1):
            raise NnetError("expected: --beam-delta above 0 and --prune-scale between 0 and 1")


class SearchGraph:
    """A graph that can be searched, checked against its transition model.

    Args:
        arrays: what the search runs on.
        num_pdfs: columns that the log-likelihoods must have at least.
        name: of the graph's file, for errors.
    """

    def __init__(self, arrays: SearchArrays, name: str) -> None:
        self.arrays = arrays
        self.name = name
        largest = int(arrays.arcs["ilabel"].max(initial=0))
        if largest >= len(arrays.pdfs):
            raise NnetError(
                f"{name}: has the input label {largest}, but the model has transition-ids up to "
                f"{len(arrays.pdfs) - 1}; expected: a graph and a model of the same system"
            )

    @cached_property
    def num_pdfs(self) -> int:
        """Columns that log-likelihoods must have at least."""
        return 1 + int(self.arrays.pdfs.max(initial=-1))

    @staticmethod
    def static(
        graph: DecodingGraph, ids: TransitionIds | None, disambiguation: Sequence[int] = ()
    ) -> SearchGraph:
        """A whole graph such as HCLG.

        Args:
            graph: from transition-ids to words.
            ids: of the model; without them an input label is one more than its pdf.
            disambiguation: input labels that take no frame, as epsilon.
        """
        largest = int(graph.arcs["ilabel"].max(initial=0))
        pdfs = _pdfs(ids, disambiguation, largest)
        return SearchGraph(SearchArrays(graph.start, graph.states, graph.arcs, pdfs), graph.name)

    @staticmethod
    def lookahead(
        graph: LookaheadGraph,
        model: NgramModel,
        ids: TransitionIds,
        disambiguation: Sequence[int] = (),
    ) -> SearchGraph:
        """A graph without a language model, and the language model.

        Args:
            graph: such as HCLr.
            model: such as Gr, with the words' numbers of the graph.
            ids: of the acoustic model.
            disambiguation: input labels that take no frame, as in `disambig_tid.int`.
        """
        return SearchGraph(
            SearchArrays(
                graph.graph.start,
                graph.graph.states,
                graph.graph.arcs,
                _pdfs(ids, disambiguation, 0),
                np.ascontiguousarray(graph.firsts),
                np.ascontiguousarray(graph.intervals),
                graph.final_label,
                model.start,
                model.backoff_states,
                model.backoff_costs,
                model.context_words,
                model.first_children,
                model.first_words,
                model.words,
                model.costs,
                model.final_costs,
            ),
            graph.graph.name,
        )


def _pdfs(ids: TransitionIds | None, disambiguation: Sequence[int], largest: int) -> Integers:
    """The pdf of each input label; -1 for those that take no frame."""
    own = np.arange(-1, largest) if ids is None else ids.pdfs
    pdfs = np.full(max((len(own), *(label + 1 for label in disambiguation))), NO_FRAME, np.int32)
    pdfs[: len(own)] = own
    pdfs[list(disambiguation)] = NO_FRAME
    return pdfs


@dataclass(frozen=True, eq=False)
class Path:
    """One path through a graph.

    Args:
        transitions: a transition-id for each frame, int32 (frames,).
        words: int32 (words,).
        graph_cost: of the graph, in nats, with the final cost.
        acoustic_cost: minus the sum of the log-likelihoods, without the acoustic scale.
        is_final: whether the path ends in a final state.
    """

    transitions: Integers
    words: Integers
    graph_cost: float
    acoustic_cost: float
    is_final: bool


class Decoder:
    """Searches a graph, a piece of an utterance at a time.

    Args:
        graph: what to search.
        options: beams and so on.
    """

    def __init__(self, graph: SearchGraph, options: DecoderOptions) -> None:
        if not can_search():
            raise NnetError(
                "decoding needs native code, and none can run here; install nnet again where there "
                "is a C++ compiler, and do not set NNET_NATIVE=reference"
            )
        self._graph = graph
        self._options = options
        self._search = NativeSearch(
            graph.arrays,
            beam=options.beam,
            lattice_beam=options.lattice_beam,
            max_active=options.max_active,
            min_active=options.min_active,
            prune_interval=options.prune_interval,
            beam_delta=options.beam_delta,
            prune_scale=options.prune_scale,
        )
        self.start()

    def start(self) -> None:
        """Begins another utterance.

        Raises:
            NnetError: the graph has no path.
        """
        self.frames = 0
        self._is_finalized = False
        self._check(self._search.start())

    def advance(self, log_likelihoods: Floats) -> None:
        """Takes the next frames.

        Args:
            log_likelihoods: (frames, pdfs), a network's outputs.

        Raises:
            NnetError: they are not those of the graph's model, or no path is left.
        """
        scores = np.ascontiguousarray(log_likelihoods, np.float32)
        if scores.ndim != 2 or scores.shape[1] < self._graph.num_pdfs:
            raise NnetError(
                f"{self._graph.name}: needs log-likelihoods of {self._graph.num_pdfs} pdfs, found "
                f"shape {scores.shape}; expected: a network of the same system"
            )
        if self._is_finalized:
            raise NnetError("the utterance has ended; expected: start() before more frames")
        self._check(self._search.advance(scores, self._options.acoustic_scale))
        self.frames += len(scores)

    def finish(self) -> None:
        """Prunes with the final costs; no frames can come after this."""
        self._is_finalized = True
        self._check(self._search.finalize())

    @property
    def final_relative_cost(self) -> float:
        """How much more the best path that ends costs than the best; infinite if none ends."""
        return self._search.final_relative_cost

    @property
    def num_active(self) -> int:
        """Tokens of the last frame."""
        return self._search.tokens

    def best_path(self, use_final: bool = True) -> Path:
        """The best path so far.

        Args:
            use_final: prefer paths that end in a final state, if there are any.

        Raises:
            NnetError: no path is left.
        """
        status, steps, final_cost = self._search.best_path(use_final)
        self._check(status)
        labels = steps["ilabel"]
        words = steps["olabel"]
        return Path(
            labels[labels > 0],
            words[words > 0],
            float(steps["graph_cost"].sum(dtype=np.float64)) + final_cost,
            float(steps["acoustic_cost"].sum(dtype=np.float64)) / self._options.acoustic_scale,
            use_final and math.isfinite(self.final_relative_cost),
        )

    def lattice(self, use_final: bool = True) -> Lattice:
        """All paths so far whose costs are near the best one's, with transition-ids and words.

        Acoustic costs are without the acoustic scale.

        Raises:
            NnetError: no path is left.
        """
        status, start, arcs, finals = self._search.lattice(use_final)
        self._check(status)
        arcs["acoustic_cost"] /= self._options.acoustic_scale
        return Lattice.of_arcs(start, finals, arcs)

    def _check(self, status: int) -> None:
        if status:
            raise NnetError(f"{self._graph.name}: {FAILURES[status]}")


@dataclass(frozen=True, eq=False)
class Decoded:
    """What was decoded of an utterance; `failure` says why there is nothing."""

    name: str
    frames: int
    path: Path | None
    lattice: Lattice | None
    failure: str = ""


def decode(
    utterances: Iterable[tuple[str, Floats]],
    graph: SearchGraph,
    options: DecoderOptions,
    *,
    with_lattices: bool = False,
    num_threads: int = 1,
) -> Iterator[Decoded]:
    """Decodes utterances on several threads; results come in the utterances' order.

    Args:
        utterances: names and log-likelihoods (frames, pdfs).
        graph: what to search.
        options: beams and so on.
        with_lattices: whether lattices are wanted.
        num_threads: how many utterances are decoded at a time.
    """
    decoders: list[Decoder] = []

    def one(utterance: tuple[str, Floats]) -> Decoded:
        name, scores = utterance
        decoder = decoders.pop() if decoders else Decoder(graph, options)
        try:
            return _decoded(decoder, name, scores, with_lattices)
        except NnetError as error:
            return Decoded(name, len(scores), None, None, str(error))
        finally:
            decoders.append(decoder)

    with ThreadPoolExecutor(num_threads) as pool:
        pending = []
        for utterance in utterances:
            pending.append(pool.submit(one, utterance))
            if len(pending) > 2 * num_threads:
                yield pending.pop(0).result()
        for future in pending:
            yield future.result()


def _decoded(decoder: Decoder, name: str, scores: Floats, with_lattices: bool) -> Decoded:
    decoder.start()
    decoder.advance(scores)
    path = decoder.best_path()
    if not with_lattices:
        return Decoded(name, len(scores), path, None)
    decoder.finish()
    return Decoded(name, len(scores), path, decoder.lattice())
