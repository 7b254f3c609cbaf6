"""Supervision of chunks of the utterances of a corpus, made as it is needed."""

from __future__ import annotations

import threading
from collections import OrderedDict

from nnet.data.chain.folder import ChainGraphs
from nnet.data.chain.supervision import (
    NoSupervisionError,
    SupervisionCutter,
    Tolerance,
    alignment_supervision,
)
from nnet.data.chunks import Chunk
from nnet.data.corpus import Utterance
from nnet.data.phone_alignments import PhoneAlignment
from nnet.modelfile.chain_examples import Supervision

HELD = 1000
"""Utterances whose whole supervision is held."""


class Supervisor:
    """Gives chunks of utterances their supervision, with weights. Safe to use from threads.

    Args:
        graphs: tree, transition model and normalization graph.
        tolerance: how far phones may move.
    """

    def __init__(self, graphs: ChainGraphs, tolerance: Tolerance) -> None:
        self._graphs = graphs
        self._tolerance = tolerance
        self._held: OrderedDict[tuple[str, int], SupervisionCutter] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def subsampling(self) -> int:
        """Input frames for each output frame."""
        return self._tolerance.subsampling

    def supervision(self, utterance: Utterance, chunk: Chunk) -> Supervision:
        """The supervision of a chunk, whose utterance has phones with lengths as its target.

        If the chunk is longer than the utterance, the last phone lasts to its end.

        Raises:
            NoSupervisionError: the utterance has too many phones for its length, or the language
                model has not seen the phones of the chunk.
        """
        frames = max(len(utterance.features), chunk.start + chunk.frames)
        step = self.subsampling
        try:
            cutter = self._cutter(utterance, frames)
            return cutter.chunk(chunk.start // step, chunk.frames // step)
        except NoSupervisionError as error:
            raise NoSupervisionError(f"utterance '{utterance.name}': {error}") from None

    def _cutter(self, utterance: Utterance, frames: int) -> SupervisionCutter:
        key = (utterance.name, frames)
        with self._lock:
            cutter = self._held.pop(key, None)
        if cutter is None:
            cutter = self._made(utterance, frames)
        with self._lock:
            self._held[key] = cutter
            if len(self._held) > HELD:
                self._held.popitem(last=False)
        return cutter

    def _made(self, utterance: Utterance, frames: int) -> SupervisionCutter:
        target = utterance.target
        if not isinstance(target, PhoneAlignment):
            raise TypeError(f"the targets of '{utterance.name}' are no phones with lengths")
        graphs = self._graphs
        whole = alignment_supervision(target.lasting(frames), graphs.hmms, self._tolerance)
        return SupervisionCutter(whole, graphs.normalizer)
