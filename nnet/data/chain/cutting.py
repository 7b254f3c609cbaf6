"""Examples for LF-MMI: what nnet3-chain-get-egs and nnet3-chain-e2e-get-egs write."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from nnet.data.chain.folder import ChainGraphs
from nnet.data.chain.supervision import NoSupervisionError, end_to_end_supervision
from nnet.data.chain.supervisor import Supervisor
from nnet.data.chunks import Chunk, ChunkSplitter
from nnet.data.corpus import Corpus, Utterance
from nnet.data.cutting import Context, chunk_inputs
from nnet.data.matrices import Floats
from nnet.errors import NnetError
from nnet.modelfile.chain_examples import ChainExample, chain_output
from nnet.modelfile.fst import Fst

log = logging.getLogger(__name__)

NEAR = 5  # input frames by which an utterance may differ from an allowed length, exclusively
PADDED_TO = 8  # output frames: without allowed lengths utterances are padded to a multiple


class ChainExampleCutter:
    """Cuts the utterances of a corpus with alignments into examples.

    Args:
        corpus: features, phones with lengths and perhaps i-vectors.
        supervisor: makes the supervision of chunks.
        widths: chunk widths in input frames, the usual one first.
        context: frames around each chunk; beyond the utterance its first and last frame repeat.
        seed: of the chunks' places and of the frame in each whose i-vector is taken.
    """

    def __init__(
        self,
        corpus: Corpus,
        supervisor: Supervisor,
        widths: tuple[int, ...],
        context: Context,
        seed: int,
    ) -> None:
        self.left_out = 0
        """Utterances that are shorter than all widths, and chunks without supervision."""
        self._corpus = corpus
        self._supervisor = supervisor
        self._step = supervisor.subsampling
        self._splitter = ChunkSplitter(widths, self._step)
        self._least = min(-(-width // self._step) for width in widths)
        self._context = context
        self._random = np.random.default_rng(seed)

    def examples(self) -> Iterator[tuple[str, ChainExample]]:
        """Keys (`UTTERANCE-FIRST_FRAME`) and examples, utterance by utterance."""
        for number, length in enumerate(self._corpus.lengths.tolist()):
            if -(-length // self._step) < self._least:
                self.left_out += 1
                continue
            utterance = self._corpus.load(number)
            chunks = self._splitter.random_chunks(length, self._random)
            for place, chunk in enumerate(chunks):
                context = self._context.of(place == 0, place == len(chunks) - 1)
                example = self._example(utterance, chunk, *context)
                if example is None:
                    self.left_out += 1
                else:
                    yield f"{utterance.name}-{chunk.start}", example

    def _example(
        self, utterance: Utterance, chunk: Chunk, left: int, right: int
    ) -> ChainExample | None:
        try:
            supervision = self._supervisor.supervision(utterance, chunk)
        except NoSupervisionError as error:
            log.warning("frames from %d on are left out: %s", chunk.start, error)
            return None
        inputs = chunk_inputs(utterance, chunk, left, right, self._random)
        output = chain_output("output", supervision, chunk.weights, self._step)
        return ChainExample(inputs, (output,))


@dataclass(frozen=True, eq=False)
class Transcribed:
    """An utterance with the training graph of what was said in it.

    Args:
        name: of the utterance.
        features: (frames, dim).
        graph: an FST with transition-ids as input labels.
        ivectors: (rows, dim), one for `frames_per_ivector` frames.
        frames_per_ivector: input frames.
    """

    name: str
    features: Floats
    graph: Fst
    ivectors: Floats | None = None
    frames_per_ivector: int = 1


class EndToEndCutter:
    """Makes one example of each utterance, as flat-start training takes them.

    Utterances of equal length make a minibatch. With `lengths`, utterances that are less than 5
    frames longer or shorter than one of them are cut or continued at their end, and others are
    left out; without, all are continued to a multiple of 8 output frames.

    Args:
        utterances: with their training graphs.
        graphs: transition model and normalization graph.
        lengths: allowed lengths in input frames, or none.
        context: frames around each utterance, in which its first and last frame repeat.
        step: input frames for each output frame.
        seed: of the frame whose i-vector is taken.
    """

    def __init__(
        self,
        utterances: Iterable[Transcribed],
        graphs: ChainGraphs,
        lengths: tuple[int, ...],
        context: Context,
        step: int,
        seed: int,
    ) -> None:
        if lengths and min(lengths) < 1:
            raise NnetError(f"--num-frames is {lengths}; expected: frames, such as 150,170,190")
        self.left_out = 0
        """Utterances of no allowed length, or with more phones than they have frames for."""
        self._utterances = utterances
        self._graphs = graphs
        self._lengths = lengths
        self._context = context
        self._step = step
        self._random = np.random.default_rng(seed)

    def examples(self) -> Iterator[tuple[str, ChainExample]]:
        """Names of utterances and examples."""
        for utterance in self._utterances:
            try:
                yield utterance.name, self._example(utterance)
            except NoSupervisionError as error:
                log.warning("utterance '%s' is left out: %s", utterance.name, error)
                self.left_out += 1

    def _example(self, utterance: Transcribed) -> ChainExample:
        frames = self._length(len(utterance.features))
        outputs = -(-frames // self._step)
        supervision = end_to_end_supervision(
            utterance.graph, outputs, self._graphs.hmms, self._graphs.normalizer
        )
        weights = np.ones(outputs, np.float32)
        left, right = self._context.of(first=True, last=True)
        inputs = chunk_inputs(utterance, Chunk(0, frames, weights), left, right, self._random)
        return ChainExample(inputs, (chain_output("output", supervision, weights, self._step),))

    def _length(self, frames: int) -> int:
        if not self._lengths:
            multiple = PADDED_TO * self._step
            return -(-frames // multiple) * multiple
        nearest = min(self._lengths, key=lambda length: abs(length - frames))
        if abs(nearest - frames) >= NEAR:
            raise NoSupervisionError(
                f"{frames} frames are not within {NEAR - 1} of an allowed length, {nearest}"
            )
        return nearest
