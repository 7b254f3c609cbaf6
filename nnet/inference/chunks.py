"""Whole utterances through a compiled network, chunk by chunk, as nnet3-compute does it.

An utterance is cut into chunks of output frames; each sees its input frames with the network's
context and any extra context, and beyond the utterance's edges its first and last frame again.
Chunks of equal shape, from whatever utterances, are run as one batch: the result does not depend
on which chunks share a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import lcm

import numpy as np
import numpy.typing as npt
import torch

from nnet.errors import NnetError
from nnet.graph.context import modulus
from nnet.inference.options import ChunkOptions
from nnet.plan.request import Request, TimeRange
from nnet.runtime.compiled import CompiledNetwork

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Utterance:
    """What is computed on.

    `features` is (frames, dim); `ivectors` is None, one vector (dim,), or a matrix (count, dim)
    with one i-vector every `ivector_period` frames.
    """

    name: str
    features: Matrix
    ivectors: Matrix | None = None
    ivector_period: int = 0


@dataclass(frozen=True)
class Chunk:
    """Output frames `first`, `first + s`, ... (`count` of them) of utterance number `utterance`."""

    utterance: int
    first: int
    count: int
    left: int
    right: int


@dataclass
class ChunkedInference:
    """Computes one output of a network on utterances.

    Args:
        module: compiled in test mode (or in evaluation mode).
        batch_frames: about how many input frames go through the network at once.
        output: the name of the output.
    """

    module: CompiledNetwork
    options: ChunkOptions = field(default_factory=ChunkOptions)
    output: str = "output"
    batch_frames: int = 6000

    def __post_init__(self) -> None:
        factor = self.options.frame_subsampling_factor
        step = lcm(factor, modulus(self.module.network))
        self._frames = -(-self.options.frames_per_chunk // step) * step
        self._inputs = {node.name: node.dim for node in self.module.network.inputs()}
        self._device = next(self.module.buffers(), torch.empty(0)).device

    @property
    def frames_per_chunk(self) -> int:
        """The chunk length in use: rounded up so that every chunk sees the same network."""
        return self._frames

    def run(self, utterances: Iterable[Utterance]) -> Iterator[tuple[str, Matrix]]:
        """Names and outputs (output frames, dim), in the order of the utterances."""
        for some in in_batches(utterances, 4 * self.batch_frames):
            for utterance in some:
                check_utterance(utterance, self._inputs)
            yield from self._run_together(some)

    def chunks(self, utterance: int, frames: int) -> Iterator[Chunk]:
        """The chunks of an utterance of `frames` input frames."""
        options = self.options
        factor = options.frame_subsampling_factor
        total = -(-frames // factor)
        per_chunk = self._frames // factor
        for start in range(0, total, per_chunk):
            count = min(per_chunk, total - start)
            left, right = options.extra_left_context, options.extra_right_context
            if start == 0 and options.extra_left_context_initial >= 0:
                left = options.extra_left_context_initial
            if start + count == total and options.extra_right_context_final >= 0:
                right = options.extra_right_context_final
            yield Chunk(utterance, start * factor, count, left, right)

    def _run_together(self, utterances: list[Utterance]) -> Iterator[tuple[str, Matrix]]:
        chunks = [
            chunk
            for number, utterance in enumerate(utterances)
            for chunk in self.chunks(number, len(utterance.features))
        ]
        by_shape: dict[tuple[int, int, int], list[int]] = {}
        for number, chunk in enumerate(chunks):
            by_shape.setdefault((chunk.count, chunk.left, chunk.right), []).append(number)
        results: list[Matrix | None] = [None] * len(chunks)
        for shape, numbers in by_shape.items():
            at_once = max(1, self.batch_frames // self._request(*shape).inputs[0][1].count)
            for start in range(0, len(numbers), at_once):
                some = numbers[start : start + at_once]
                rows = self._run_batch(shape, [chunks[n] for n in some], utterances)
                for number, part in zip(some, rows, strict=True):
                    results[number] = part
        parts: dict[int, list[Matrix]] = {}
        for chunk, part in zip(chunks, results, strict=True):
            assert part is not None
            parts.setdefault(chunk.utterance, []).append(part)
        for number, utterance in enumerate(utterances):
            yield utterance.name, np.concatenate(parts[number])

    def _request(self, count: int, extra_left: int, extra_right: int) -> Request:
        factor = self.options.frame_subsampling_factor
        left = self.module.left_context + extra_left
        right = self.module.right_context + extra_right
        wanted = TimeRange(0, count, factor)
        given = TimeRange(-left, left + wanted.last + 1 + right)
        inputs = {"input": given, "ivector": TimeRange(0, 1)}
        return Request.of({n: inputs[n] for n in self._inputs}, {self.output: wanted})

    def _run_batch(
        self, shape: tuple[int, int, int], chunks: list[Chunk], utterances: list[Utterance]
    ) -> Matrix:
        request = self._request(*shape)
        times = dict(request.inputs)["input"]
        steps = np.arange(times.start, times.start + times.count)
        features = np.stack([_frames(utterances[c.utterance], c.first + steps) for c in chunks])
        inputs = {"input": torch.from_numpy(features)}
        if "ivector" in self._inputs:
            vectors = [self._ivector(utterances[c.utterance], c) for c in chunks]
            inputs["ivector"] = torch.from_numpy(np.stack(vectors)).unsqueeze(1)
        on_device = {name: tensor.to(self._device) for name, tensor in inputs.items()}
        with torch.inference_mode():
            result = self.module(on_device, request)[self.output]
        return result.float().cpu().numpy()

    def _ivector(self, utterance: Utterance, chunk: Chunk) -> Matrix:
        """The utterance's, or the online one nearest before the chunk's middle."""
        vectors = utterance.ivectors
        assert vectors is not None
        if vectors.ndim == 1:
            return vectors
        span = (chunk.count - 1) * self.options.frame_subsampling_factor
        frame = chunk.first + span // 2
        row = frame // utterance.ivector_period
        if (row - len(vectors) + 1) * utterance.ivector_period > 50:
            raise NnetError(
                f"utterance '{utterance.name}': no online i-vector for frame {frame}; there are "
                f"{len(vectors)}, one every {utterance.ivector_period} frames "
                "(is --online-ivector-period right?)"
            )
        return vectors[min(row, len(vectors) - 1)]


def _frames(utterance: Utterance, times: npt.NDArray[np.int64]) -> Matrix:
    """Feature rows at `times`; beyond the edges the first and last row."""
    return utterance.features[np.clip(times, 0, len(utterance.features) - 1)]


def in_batches(utterances: Iterable[Utterance], frames: int) -> Iterator[list[Utterance]]:
    """The utterances in lists of at least `frames` frames each, but for the last."""
    waiting: list[Utterance] = []
    total = 0
    for utterance in utterances:
        waiting.append(utterance)
        total += len(utterance.features)
        if total >= frames:
            yield waiting
            waiting, total = [], 0
    if waiting:
        yield waiting


def check_utterance(utterance: Utterance, dims: Mapping[str, int]) -> None:
    """Raises NnetError if the utterance does not fit a network with inputs of these dimensions."""
    where = f"utterance '{utterance.name}'"
    if "input" not in dims or dims.keys() - {"input", "ivector"}:
        raise NnetError(
            "this needs a network with inputs 'input' and, if it uses i-vectors, 'ivector'; "
            f"this one has: {', '.join(dims)}"
        )
    frames, dim = utterance.features.shape
    if frames == 0:
        raise NnetError(f"{where} has no frames")
    if dim != dims["input"]:
        raise NnetError(
            f"{where}: features have dim {dim}, the network's input has dim {dims['input']}"
        )
    given = 0 if utterance.ivectors is None else utterance.ivectors.shape[-1]
    expected = dims.get("ivector", 0)
    if given != expected:
        found = f"i-vectors have dim {given}" if given else "no i-vectors are given"
        wants = f"wants dim {expected}" if expected else "has no i-vector input"
        raise NnetError(f"{where}: {found}, the network {wants}")
