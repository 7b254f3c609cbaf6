"""Speech to words, as it comes in: `nnet.Recognizer`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnet.errors import NnetError
from nnet.modelfile.lattices import CompactLattice
from nnet.modelfile.ngram_fst import NgramModel
from nnet.speech.decoding import Decoder, Path, SearchGraph
from nnet.speech.endpointing import trailing_silence
from nnet.speech.graphs.phrase_model import phrase_model
from nnet.speech.ivectors.silence import SilenceWeighting
from nnet.speech.lattices.confidence import WordTime, minimum_bayes_risk
from nnet.speech.lattices.ctm import word_times
from nnet.speech.lattices.determinization import determinized
from nnet.speech.lattices.paths import Scales, paths, scaled
from nnet.speech.lattices.word_alignment import BoundaryFinder, WordAligner
from nnet.speech.network_stream import NetworkStream
from nnet.speech.pipeline import OnlinePipeline
from nnet.speech.recognition_folder import SpeechModel, load_speech_model

FULL_SCALE = 32768.0
Result = dict[str, Any]


class Recognizer:
    """Recognises speech piece by piece; answers have the keys of Vosk's JSON.

    Several recognisers can share one model, also from several threads.

    Args:
        model: a folder, the name of a package with one, or what `load_speech_model` gives.
        sample_frequency: Hz of the signal; None: that of the model's features.
        max_alternatives: how many word sequences an answer has; 0: one, with confidences.
        grammar: phrases that alone can be recognised, where the folder's graph allows that.
        endpointing: whether utterances end where the model's rules say so.
    """

    def __init__(
        self,
        model: SpeechModel | str | os.PathLike[str],
        sample_frequency: float | None = None,
        *,
        max_alternatives: int = 0,
        grammar: Sequence[str] | NgramModel | None = None,
        endpointing: bool = True,
    ) -> None:
        self._model = model if isinstance(model, SpeechModel) else load_speech_model(model)
        self._sample_frequency = sample_frequency
        self._max_alternatives = max_alternatives
        self._endpointing = endpointing and bool(self._model.endpointing.silence_phones)
        self._aligner: WordAligner | None = None
        if self._model.places is not None:
            self._aligner = WordAligner(self._model.ids, BoundaryFinder(self._model.places))
        self._decoder = Decoder(self._model.graph, self._model.options)
        self._is_finished = False
        if grammar is not None:
            self.set_grammar(grammar)
        self._open(None)

    def set_grammar(self, grammar: Sequence[str] | NgramModel) -> None:
        """From the next utterance on recognises these phrases, or words of this model, alone.

        Raises:
            NnetError: the folder's graph has its language model in it, or a word is not known.
        """
        model = self._model
        if model.lookahead is None:
            raise NnetError(
                f"{model.name}: the graph has its language model in it (HCLG.fst), so that "
                "the grammar cannot be changed; expected: HCLr.fst and Gr.fst"
            )
        if not isinstance(grammar, NgramModel):
            grammar = phrase_model(grammar, model.words)
        graph = SearchGraph.lookahead(model.lookahead, grammar, model.ids, model.disambiguation)
        self._decoder = Decoder(graph, model.options)

    def accept(self, samples: ArrayLike | bytes) -> bool:
        """The next samples; whether the utterance has ended, so that `result` should be asked for.

        Args:
            samples: (samples,) of 16-bit integers, or of floats from -1 to 1; or the bytes of
                16-bit integers.

        Raises:
            NnetError: they are not like that, or the signal has ended.
        """
        if self._is_finished:
            raise NnetError("the signal has ended; expected: reset() before more of it")
        self._pipeline.accept(_samples(samples))
        self._advance()
        return self._has_ended()

    def partial(self) -> Result:
        """What is recognised so far of the present utterance: `{"partial": "..."}`."""
        path = self._path()
        words = [] if path is None else path.words.tolist()
        return {"partial": self._model.words.text(words)}

    def result(self) -> Result:
        """The present utterance, after which another begins.

        Returns:
            `{"text": ..., "result": [{"word", "start", "end", "conf"}, ...]}`, times in seconds
            since the beginning of the signal; or `{"alternatives": [...]}`.
        """
        found = self._answer()
        self._begin(self._offset + self._decoder.frames)
        return found

    def final(self) -> Result:
        """The last utterance, after the end of the signal."""
        if not self._is_finished:
            self._is_finished = True
            self._pipeline.finish()
            self._advance()
        return self.result()

    def reset(self) -> None:
        """Begins another signal; what is known of the speaker is kept for the i-vectors."""
        self._open(self._pipeline)

    def _open(self, before: OnlinePipeline | None) -> None:
        model = self._model
        self._pipeline = model.pipeline.open(
            self._sample_frequency,
            state=None if before is None else before.state(),
            cmvn_state=None if before is None else before.cmvn_state(),
        )
        self._network = NetworkStream(model.network, model.subsampling, model.frames_per_chunk)
        if self._network.uses_ivectors and self._pipeline.ivectors is None:
            raise NnetError(
                f"{model.name}: the network needs i-vectors, and the folder has no extractor"
            )
        self._is_finished = False
        self._begin(0)

    def _begin(self, offset: int) -> None:
        """Begins an utterance after so many frames of the network's output."""
        self._offset = offset
        self._decoder.start()
        model = self._model
        self._weighting: SilenceWeighting | None = None
        if model.pipeline.silence.active and self._pipeline.ivectors is not None:
            phones = model.ids.phones.tolist()
            self._weighting = SilenceWeighting(model.pipeline.silence, phones, model.subsampling)

    def _advance(self) -> None:
        self._network.accept(self._pipeline.take())
        if self._is_finished:
            self._network.finish()
        ivectors = self._pipeline.ivectors
        if ivectors is not None and self._weighting is not None:
            path = self._path()
            self._weighting.follow([] if path is None else path.transitions.tolist())
            first = self._offset * self._model.subsampling
            ivectors.update_weights(self._weighting.changes(ivectors.frames_ready, first))

        def newest(frame: int) -> NDArray[np.float32]:
            assert ivectors is not None
            return ivectors.ivector(min(frame, ivectors.frames_ready - 1))

        for scores in self._network.take(newest if ivectors is not None else None):
            self._decoder.advance(scores)

    def _path(self) -> Path | None:
        return self._decoder.best_path(use_final=False) if self._decoder.frames else None

    def _has_ended(self) -> bool:
        path = self._path() if self._endpointing else None
        if path is None:
            return False
        endpointing, shift = self._model.endpointing, self._model.frame_shift
        silence = trailing_silence(
            path.transitions, self._model.ids.phones, endpointing.silence_phones
        )
        return endpointing.has_ended(
            silence * shift, self._decoder.final_relative_cost, self._decoder.frames * shift
        )

    def _answer(self) -> Result:
        lattice = self._lattice()
        if lattice is None or lattice.num_states == 0:
            return self._empty()
        if self._max_alternatives:
            return {"alternatives": self._alternatives(lattice)}
        words = minimum_bayes_risk(lattice).words
        listed = [{"conf": round(word.confidence, 6), **self._timed(word)} for word in words]
        text = self._model.words.text(word.word for word in words)
        return {"result": listed, "text": text} if listed else {"text": text}

    def _lattice(self) -> CompactLattice | None:
        """The present utterance's lattice with scaled acoustic costs; its words are aligned."""
        if not self._decoder.frames:
            return None
        self._decoder.finish()
        options = self._model.options
        raw = self._decoder.lattice()
        found = determinized(raw, options.lattice_beam, options.acoustic_scale)
        found = scaled(found, Scales(self._model.lm_scale, options.acoustic_scale))
        return found if self._aligner is None else self._aligner(found)

    def _alternatives(self, lattice: CompactLattice) -> list[Result]:
        found = []
        for path in itertools.islice(paths(lattice), self._max_alternatives):
            words = word_times(lattice, path)
            found.append(
                {
                    "confidence": round(-(path.graph_cost + path.acoustic_cost), 6),
                    "result": [self._timed(word) for word in words],
                    "text": self._model.words.text(path.words.tolist()),
                }
            )
        return found

    def _empty(self) -> Result:
        if self._max_alternatives:
            return {"alternatives": [{"confidence": 1.0, "text": ""}]}
        return {"text": ""}

    def _timed(self, word: WordTime) -> Result:
        shift = self._model.frame_shift
        return {
            "end": round((self._offset + word.end) * shift, 6),
            "start": round((self._offset + word.begin) * shift, 6),
            "word": self._model.words[word.word],
        }


def _samples(samples: ArrayLike | bytes) -> NDArray[np.float32]:
    """In the range of 16-bit integers."""
    if isinstance(samples, bytes | bytearray | memoryview):
        raw = bytes(samples)
        if len(raw) % 2:
            raise NnetError(f"found {len(raw)} bytes; expected: samples of 16 bits")
        return np.frombuffer(raw, "<i2").astype(np.float32)
    values = np.asarray(samples)
    if values.ndim != 1:
        raise NnetError(f"found samples of shape {values.shape}; expected: (samples,)")
    if values.dtype.kind == "f":
        return (values * FULL_SCALE).astype(np.float32)
    if values.dtype != np.int16:
        raise NnetError(
            f"found samples of type {values.dtype}; expected: 16-bit integers, or floats from -1 "
            "to 1"
        )
    return values.astype(np.float32)
