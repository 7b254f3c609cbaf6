"""One vector an utterance, such as an x-vector, as nnet3-xvector-compute makes it.

An utterance is cut into chunks, side by side; the output at time 0 is computed from each chunk
alone, and the outputs are averaged, weighted by the chunks' numbers of frames. Chunks of equal
length, from whatever utterances, are run as one batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from nnet.errors import NnetError
from nnet.inference.chunks import Utterance, check_utterance, in_batches
from nnet.inference.options import SegmentOptions
from nnet.plan.request import Request, TimeRange
from nnet.runtime.compiled import CompiledNetwork

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Segment:
    """Frames `first` up to `first + count`, the first `left` times more, the last `right` times."""

    first: int
    count: int
    left: int = 0
    right: int = 0

    @property
    def frames(self) -> int:
        """As many frames as the network gets."""
        return self.left + self.count + self.right


def segments(frames: int, options: SegmentOptions) -> list[Segment]:
    """The chunks of an utterance of `frames` frames; none if it is too short without padding."""
    size = frames if options.chunk_size == -1 else min(options.chunk_size, frames)
    result = []
    for first in range(0, frames, size):
        count = min(size, frames - first)
        missing = max(0, options.min_chunk_size - count)
        if options.pad_input or not missing:
            result.append(Segment(first, count, missing // 2, missing - missing // 2))
    return result


@dataclass
class SegmentInference:
    """Computes one output of a network, a vector an utterance.

    Args:
        module: compiled in test mode (or in evaluation mode).
        output: the name of the output.
        batch_frames: about how many input frames go through the network at once.
    """

    module: CompiledNetwork
    options: SegmentOptions = field(default_factory=SegmentOptions)
    output: str = "output"
    batch_frames: int = 6000

    def __post_init__(self) -> None:
        self._dims = {node.name: node.dim for node in self.module.network.inputs()}
        if self._dims.keys() != {"input"}:
            raise NnetError(
                "one vector an utterance needs a network whose only input is 'input'; this one "
                f"has: {', '.join(self._dims)}"
            )
        self._device = next(self.module.buffers(), torch.empty(0)).device

    def run(self, utterances: Iterable[Utterance]) -> Iterator[tuple[str, Vector]]:
        """Names and outputs (dim,), in the order of the utterances.

        Raises:
            NnetError: an utterance does not fit the network, or has no chunks (see `segments`).
        """
        for some in in_batches(utterances, 4 * self.batch_frames):
            for utterance in some:
                check_utterance(utterance, self._dims)
            yield from self._run_together(some)

    def _run_together(self, utterances: list[Utterance]) -> Iterator[tuple[str, Vector]]:
        cut = [segments(len(utterance.features), self.options) for utterance in utterances]
        by_length: dict[int, list[tuple[int, Segment]]] = {}
        for number, parts in enumerate(cut):
            for segment in parts:
                by_length.setdefault(segment.frames, []).append((number, segment))
        sums: list[npt.NDArray[np.float64] | None] = [None] * len(utterances)
        for frames, chunks in by_length.items():
            at_once = max(1, self.batch_frames // frames)
            for start in range(0, len(chunks), at_once):
                some = chunks[start : start + at_once]
                rows = self._run_batch([_padded(utterances[n], part) for n, part in some])
                for (number, segment), row in zip(some, rows, strict=True):
                    before = sums[number]
                    weighted = segment.count * row.astype(np.float64)
                    sums[number] = weighted if before is None else before + weighted
        for utterance, parts, total in zip(utterances, cut, sums, strict=True):
            if total is None:
                raise NnetError(
                    f"utterance '{utterance.name}' has {len(utterance.features)} frames, "
                    f"expected at least {self.options.min_chunk_size} without padding"
                )
            average = total / sum(segment.count for segment in parts)
            yield utterance.name, average.astype(np.float32)

    def _run_batch(self, features: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """The output at time 0 of chunks of the same length; (batch, dim)."""
        inputs = torch.from_numpy(np.stack(features)).to(self._device)
        request = Request.of(
            {"input": TimeRange(0, inputs.shape[1])}, {self.output: TimeRange(0, 1)}
        )
        with torch.inference_mode():
            result = self.module({"input": inputs}, request)[self.output]
        return result[:, 0].float().cpu().numpy()


def _padded(utterance: Utterance, segment: Segment) -> npt.NDArray[np.float32]:
    steps = np.arange(-segment.left, segment.count + segment.right)
    return utterance.features[segment.first + np.clip(steps, 0, segment.count - 1)]
