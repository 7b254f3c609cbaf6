"""Examples cut from utterances: what nnet3-get-egs and nnet3-get-egs-dense-targets write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nnet.data.chunks import Chunk, ChunkSplitter
from nnet.data.corpus import Corpus, Utterance
from nnet.data.matrices import Floats
from nnet.data.phone_alignments import PhoneAlignment
from nnet.data.posteriors import Posterior
from nnet.errors import NnetError
from nnet.modelfile.examples import Example, NnetIo, frame_indexes
from nnet.modelfile.general_matrix import FullMatrix, GeneralMatrix, SparseMatrix

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Context:
    """Input frames added before and after a chunk; those at the edges of an utterance may differ
    (None: they do not)."""

    left: int = 0
    right: int = 0
    left_initial: int | None = None
    right_final: int | None = None

    def of(self, first: bool, last: bool) -> tuple[int, int]:
        """The context of an utterance's first or last chunk, or of one between."""
        left = self.left_initial if first and self.left_initial is not None else self.left
        right = self.right_final if last and self.right_final is not None else self.right
        return left, right


class ExampleCutter:
    """Cuts the utterances of a corpus into examples.

    Args:
        corpus: features, targets and perhaps i-vectors.
        widths: chunk widths in input frames, the usual one first.
        context: frames around each chunk; beyond the utterance its first and last frame repeat.
        seed: of the chunks' places and of the frame in each whose i-vector is taken.
    """

    def __init__(
        self, corpus: Corpus, widths: tuple[int, ...], context: Context, seed: int
    ) -> None:
        if min(widths, default=0) < 1:
            raise NnetError(f"--num-frames is {widths}; expected: frames, such as 8 or 150,110,100")
        self.too_short = 0
        """Utterances shorter than all widths, which have no example."""
        self._corpus = corpus
        self._step = corpus.sources.subsampling
        self._least = min(-(-width // self._step) * self._step for width in widths)
        self._splitter = ChunkSplitter(widths, self._step)
        self._context = context
        self._random = np.random.default_rng(seed)

    def examples(self) -> Iterator[tuple[str, Example]]:
        """Keys (`UTTERANCE-FIRST_FRAME`) and examples, utterance by utterance."""
        for number, length in enumerate(self._corpus.lengths.tolist()):
            if -(-length // self._step) * self._step < self._least:
                self.too_short += 1
                continue
            utterance = self._corpus.load(number)
            chunks = self._splitter.random_chunks(length, self._random)
            for place, chunk in enumerate(chunks):
                context = self._context.of(place == 0, place == len(chunks) - 1)
                yield f"{utterance.name}-{chunk.start}", self._example(utterance, chunk, *context)

    def _example(self, utterance: Utterance, chunk: Chunk, left: int, right: int) -> Example:
        inputs = chunk_inputs(utterance, chunk, left, right, self._random)
        targets = self._targets(utterance, chunk)
        indexes = frame_indexes(0, len(chunk.weights), self._step)
        return Example((*inputs, NnetIo("output", indexes, targets)))

    def _targets(self, utterance: Utterance, chunk: Chunk) -> GeneralMatrix:
        target, dim = utterance.target, self._corpus.sources.output_dim
        frames = np.arange(chunk.start, chunk.start + chunk.frames, self._step)
        places = frames // utterance.frames_per_target
        inside = places < len(target)
        if isinstance(target, PhoneAlignment):
            raise NnetError("phones with their lengths are targets for nnet chain-get-egs")
        if isinstance(target, Posterior):
            return _sparse(target, places, inside, chunk.weights, dim)
        if target.ndim == 2:
            return FullMatrix(np.asarray(target, np.float32)[places.clip(0, len(target) - 1)])
        offsets = np.concatenate(([0], np.cumsum(inside)))
        return SparseMatrix(
            dim, offsets, np.asarray(target[places[inside]], np.int32), chunk.weights[inside]
        )


class Speech(Protocol):
    """What the inputs of an example are cut from: features (frames, dim) and i-vectors (rows, dim),
    one for `frames_per_ivector` frames."""

    @property
    def features(self) -> Floats: ...

    @property
    def ivectors(self) -> Floats | None: ...

    @property
    def frames_per_ivector(self) -> int: ...


def chunk_inputs(
    speech: Speech, chunk: Chunk, left: int, right: int, random: np.random.Generator
) -> tuple[NnetIo, ...]:
    """The inputs of an example: the chunk's features with so many frames before and after it, and
    if there are i-vectors that of a random frame of the chunk."""
    frames = np.arange(chunk.start - left, chunk.start + chunk.frames + right)
    rows = speech.features[frames.clip(0, len(speech.features) - 1)]
    features = NnetIo("input", frame_indexes(-left, len(rows)), FullMatrix(rows))
    if speech.ivectors is None:
        return (features,)
    frame = chunk.start + int(random.integers(chunk.frames))
    row = min(frame // speech.frames_per_ivector, len(speech.ivectors) - 1)
    vector = speech.ivectors[row : row + 1]
    return features, NnetIo("ivector", frame_indexes(0, 1), FullMatrix(vector))


def _sparse(
    posterior: Posterior, places: Places, inside: NDArray[np.bool_], weights: Floats, dim: int
) -> SparseMatrix:
    """The frames at `places`, weighted; without pairs where they are not inside the utterance."""
    frames = [
        posterior.frame(int(t)) if there else [] for t, there in zip(places, inside, strict=True)
    ]
    rows = Posterior.of(frames)
    counts = np.diff(rows.offsets)
    return SparseMatrix(dim, rows.offsets, rows.ids, rows.weights * np.repeat(weights, counts))
