"""Alignment of long recordings: recognised with a language model of their text, cut at anchors.

Where several words in a row are recognised as the text has them, the recording can be cut; the
pieces are aligned with their part of the text (Moreno, Joerg, Van Thong and Glickman, "A recursive
algorithm for the forced alignment of very long audio segments", 1998).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nnet.data.chain.expansion import PhoneHmms
from nnet.data.phone_alignments import PhoneAlignment
from nnet.errors import NnetError
from nnet.modelfile.graph_files import DecodingGraph
from nnet.speech.alignment import Aligner, Alignment
from nnet.speech.decoding import Decoder, DecoderOptions, Path, SearchGraph
from nnet.speech.graphs.building import GraphScales, decoding_graph, grammar_graph
from nnet.speech.graphs.lang import WORD_DISAMBIGUATION, Lang
from nnet.speech.graphs.phrase_model import phrase_acceptor, phrase_model
from nnet.speech.lattices.confidence import WordTime
from nnet.speech.scoring import aligned_words

log = logging.getLogger(__name__)
Floats = NDArray[np.float32]
ANCHOR = 3
"""Words in a row that must be recognised as they are in the text."""
SEEN = 0.95
"""Probability of words that the text has after a word."""


@dataclass(frozen=True)
class Piece:
    """A part of a recording and of its text.

    Args:
        begin: the first frame.
        end: the frame after the last one.
        first: the first word.
        last: the word after the last one.
    """

    begin: int
    end: int
    first: int
    last: int


def cut_at_anchors(
    text: Sequence[int], recognized: Sequence[WordTime], frames: int, shortest: int
) -> list[Piece]:
    """Pieces of at least `shortest` frames that begin and end within anchors.

    Args:
        text: labels of the text's words.
        recognized: words with times, in order.
        frames: of the recording.
        shortest: frames of a piece, at least.
    """
    pairs = aligned_words([str(word) for word in text], [str(word.word) for word in recognized])
    pieces, begin, first = [], 0, 0
    place = heard = run = 0
    for reference, hypothesis in pairs:
        run = run + 1 if reference == hypothesis else 0
        if run >= ANCHOR:  # the cut lies before the last word of the anchor
            middle = (recognized[heard - 1].end + recognized[heard].begin) / 2
            if middle - begin >= shortest and frames - middle >= shortest:
                pieces.append(Piece(begin, round(middle), first, place))
                begin, first = round(middle), place
        place += reference is not None
        heard += hypothesis is not None
    return [*pieces, Piece(begin, frames, first, len(text))]


class LongAligner:
    """Aligns long recordings with their texts.

    Args:
        lang: words, phones and lexicon.
        hmms: the phones' HMMs in context.
        aligner: of the pieces.
        options: of the recognition that finds the anchors.
        scales: of its graph.
        shortest: frames of a piece, at least.
    """

    def __init__(
        self,
        lang: Lang,
        hmms: PhoneHmms,
        aligner: Aligner,
        options: DecoderOptions,
        scales: GraphScales,
        shortest: int,
    ) -> None:
        self._lang, self._hmms, self._aligner = lang, hmms, aligner
        self._options, self._scales, self._shortest = options, scales, shortest

    def __call__(self, words: Sequence[int], log_likelihoods: Floats) -> Alignment:
        """The alignment of a whole recording.

        Parts of the text that do not fit are left out with a warning; what is recognised there
        stands for them.

        Raises:
            NnetError: nothing is recognised, or no part fits.
        """
        decoder = Decoder(self._graph(words), self._options)
        decoder.advance(log_likelihoods)
        heard = self._aligner.timed(decoder.best_path())
        pieces = cut_at_anchors(words, heard.words, len(log_likelihoods), self._shortest)
        found, failed = [], 0
        for piece in pieces:
            part = words[piece.first : piece.last]
            try:
                aligned = self._aligner(part, log_likelihoods[piece.begin : piece.end])
            except NnetError as error:
                failed += 1
                text = self._lang.words.text(part[:5])
                log.warning("frames %d to %d ('%s ...'): %s", piece.begin, piece.end, text, error)
                aligned = _part(heard, piece, self._aligner)
            found.append((piece.begin, aligned))
        if failed == len(pieces):
            raise NnetError("no part of the text fits the recording; expected: its own text")
        return _joined(found)

    def _graph(self, words: Sequence[int]) -> SearchGraph:
        """The graph of a language model of the text."""
        symbols = self._lang.words
        model = phrase_model([symbols.text(words)], symbols, SEEN)
        grammar = phrase_acceptor(model, symbols.label(WORD_DISAMBIGUATION))
        phones = grammar_graph(self._lang.lexicon, grammar)
        graph = decoding_graph(phones, self._lang.disambiguation, self._hmms, self._scales)
        return SearchGraph.static(DecodingGraph.of(graph, "the text's graph"), self._hmms.ids)


def _part(heard: Alignment, piece: Piece, aligner: Aligner) -> Alignment:
    """What was recognised in a piece, without words."""
    transitions = heard.path.transitions[piece.begin : piece.end]
    path = replace(heard.path, transitions=transitions, words=heard.path.words[:0])
    return replace(aligner.timed(path), words=[])


def _joined(parts: Sequence[tuple[int, Alignment]]) -> Alignment:
    """One alignment of pieces one after the other."""
    alignments = [part for _, part in parts]
    paths = [part.path for part in alignments]
    path = Path(
        np.concatenate([path.transitions for path in paths]),
        np.concatenate([path.words for path in paths]),
        sum(path.graph_cost for path in paths),
        sum(path.acoustic_cost for path in paths),
        paths[-1].is_final,
    )
    phones = PhoneAlignment(
        np.concatenate([part.phones.phones for part in alignments]),
        np.concatenate([part.phones.durations for part in alignments]),
    )
    words = [
        replace(word, begin=word.begin + begin, end=word.end + begin)
        for begin, part in parts
        for word in part.words
    ]
    return Alignment(path, phones, words)
