"""Alignment: where the words and phones of a known text are in an utterance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.data.chain.expansion import PhoneHmms
from nnet.data.phone_alignments import PhoneAlignment, phones_of_transitions
from nnet.errors import NnetError
from nnet.fst.local_epsilons import connected
from nnet.fst.transducers import Arc, sorted_arcs, transducer_of
from nnet.modelfile.fst import Fst
from nnet.modelfile.graph_files import DecodingGraph
from nnet.modelfile.lattices import compact_lattice
from nnet.speech.decoding import Decoder, DecoderOptions, Path, SearchGraph
from nnet.speech.graphs.building import GraphScales, decoding_graph
from nnet.speech.lattices.confidence import WordTime
from nnet.speech.lattices.ctm import word_times
from nnet.speech.lattices.paths import best_path
from nnet.speech.lattices.word_alignment import WordAligner, WordFinder

Floats = NDArray[np.float32]
LATTICE_BEAM = 0.5  # of no use where one path is wanted, but of memory
FEWEST_ACTIVE = 20


@dataclass(frozen=True)
class AlignmentOptions:
    """Options of alignment; the names are those of nnet3-align-compiled.

    Args:
        beam: how much more than the best path others may cost, in nats.
        retry_beam: the same where no path was found the first time; 0: no second time.
        acoustic_scale: factor of the log-likelihoods.
        transition_scale: factor of the costs of transitions between states.
        self_loop_scale: factor of the costs of self-loops.
    """

    beam: float = 200.0
    retry_beam: float = 0.0
    acoustic_scale: float = 1.0
    transition_scale: float = 1.0
    self_loop_scale: float = 1.0


@dataclass(frozen=True, eq=False)
class Alignment:
    """An utterance that was aligned.

    Args:
        path: its transition-ids and costs.
        phones: with their lengths in frames of the network's output.
        words: with their times in the same.
    """

    path: Path
    phones: PhoneAlignment
    words: Sequence[WordTime]


class Aligner:
    """Aligns texts with utterances (compile-train-graphs and nnet3-align-compiled).

    Args:
        lexicon: L, from phones to words, or L_disambig.
        disambiguation: labels of disambiguation symbols among the phones.
        hmms: the phones' HMMs in context.
        finder: what a word is among phones.
        options: beams and scales.
    """

    def __init__(
        self,
        lexicon: Fst,
        disambiguation: Sequence[int],
        hmms: PhoneHmms,
        finder: WordFinder,
        options: AlignmentOptions,
    ) -> None:
        self._lexicon = _SortedLexicon(lexicon)
        self._disambiguation = disambiguation
        self._hmms = hmms
        self._options = options
        self._word_aligner = WordAligner(hmms.ids, finder)

    def graph(self, words: Sequence[int]) -> Fst:
        """The transducer from transition-ids to the words of a text.

        Raises:
            NnetError: the lexicon has no pronunciation of a word.
        """
        scales = GraphScales(self._options.transition_scale, self._options.self_loop_scale)
        phones = self._lexicon.composed(words)
        return decoding_graph(phones, self._disambiguation, self._hmms, scales)

    def __call__(self, words: Sequence[int], log_likelihoods: Floats) -> Alignment:
        """The most likely alignment.

        Args:
            words: labels of the text's words.
            log_likelihoods: (frames, pdfs), a network's outputs.

        Raises:
            NnetError: a word has no pronunciation, or the text does not fit the utterance.
        """
        path = self._path(self.graph(words), log_likelihoods)
        return self.timed(path)

    def timed(self, path: Path) -> Alignment:
        """Where the phones and words of a path are."""
        transitions = path.transitions.astype(np.int64)
        phones = phones_of_transitions(transitions, self._hmms.ids)
        words = path.words.tolist()
        arcs = [(place, word, 0.0, 0.0, (), place + 1) for place, word in enumerate(words)]
        last = {len(words): (0.0, 0.0, path.transitions)}
        aligned = self._word_aligner(compact_lattice(len(words) + 1, arcs, last))
        return Alignment(path, phones, word_times(aligned, best_path(aligned)))

    def _path(self, graph: Fst, log_likelihoods: Floats) -> Path:
        search = SearchGraph.static(DecodingGraph.of(graph, "the text's graph"), self._hmms.ids)
        options = self._options
        for beam in (options.beam, options.retry_beam):
            if not beam:
                continue
            decoder = Decoder(
                search,
                DecoderOptions(
                    beam=beam,
                    min_active=FEWEST_ACTIVE,
                    lattice_beam=LATTICE_BEAM,
                    acoustic_scale=options.acoustic_scale,
                ),
            )
            try:
                decoder.advance(log_likelihoods)
                path = decoder.best_path()
            except NnetError:
                continue
            if path.is_final:
                return path
        raise NnetError(
            f"the text does not fit the {len(log_likelihoods)} frames of the utterance; expected: "
            "its own text, or a wider --beam or --retry-beam"
        )


class _SortedLexicon:
    """A lexicon whose arcs are found by their words."""

    def __init__(self, lexicon: Fst) -> None:
        self._fst = sorted_arcs(lexicon, by_output=True)
        self._known = frozenset(np.unique(lexicon.olabels).tolist())

    def composed(self, words: Sequence[int]) -> Fst:
        """The transducer from phones to the words of a text."""
        unknown = next((word for word in words if word not in self._known), None)
        if unknown is not None:
            raise NnetError(f"the lexicon has no pronunciation of the word with label {unknown}")
        first = (self._fst.start, 0)
        numbers: dict[tuple[int, int], int] = {first: 0}
        queue = [first]
        arcs: list[Arc] = []
        finals: dict[int, float] = {}
        for source, (state, place) in enumerate(queue):  # grows
            if place == len(words):
                finals[source] = float(self._fst.finals[state])
            for arc in self._arcs(state, [0, *words[place : place + 1]]):
                word = int(self._fst.olabels[arc])
                pair = (int(self._fst.nextstates[arc]), place + bool(word))
                if pair not in numbers:
                    numbers[pair] = len(queue)
                    queue.append(pair)
                cost = float(self._fst.weights[arc])
                arcs.append((source, int(self._fst.ilabels[arc]), word, cost, numbers[pair]))
        found = connected(transducer_of(len(queue), arcs, finals))
        if found.start < 0:
            raise NnetError("the lexicon has no way to say the text")
        return found

    def _arcs(self, state: int, words: Sequence[int]) -> list[int]:
        begin, end = self._fst.offsets[state : state + 2].tolist()
        labels = self._fst.olabels[begin:end]
        arcs: list[int] = []
        for word in words:
            first, last = np.searchsorted(labels, [word, word + 1]).tolist()
            arcs += range(begin + first, begin + last)
        return arcs


def labels_of_text(
    text: Sequence[str], labels: Mapping[str, int], unknown: int | None
) -> list[int]:
    """The labels of a text's words.

    Args:
        text: the words.
        labels: of the known words.
        unknown: of all others; None where there is none.

    Raises:
        NnetError: a word is not known, and there is no label for that.
    """
    found = []
    for word in text:
        label = labels.get(word, unknown)
        if label is None:
            raise NnetError(
                f"the word '{word}' is not in words.txt; expected: known words, or oov.int"
            )
        found.append(label)
    return found
