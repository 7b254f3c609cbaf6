"""What is asked of a network: the times at which inputs are given and outputs wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nnet.graph.network import Network


@dataclass(frozen=True)
class TimeRange:
    """Times `start, start + step, ...` (`count` of them), in frames."""

    start: int
    count: int
    step: int = 1

    @property
    def last(self) -> int:
        return self.start + (self.count - 1) * self.step

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.last + 1, self.step))


@dataclass(frozen=True)
class Request:
    """Index sets by name, for every sequence of the batch alike (nnet3's ComputationRequest).

    The batch size is not part of a request: a request's plan serves every batch size.
    """

    inputs: tuple[tuple[str, TimeRange], ...]
    outputs: tuple[tuple[str, TimeRange], ...]

    @staticmethod
    def of(inputs: Mapping[str, TimeRange], outputs: Mapping[str, TimeRange]) -> Request:
        return Request(tuple(inputs.items()), tuple(outputs.items()))


def chunk_request(
    network: Network,
    frames: int,
    *,
    left_context: int,
    right_context: int,
    subsampling: int = 1,
    outputs: tuple[str, ...] | None = None,
) -> Request:
    """The usual request: outputs at 0, s, 2s, ... below `frames`, and the inputs around them.

    `input` is given from `-left_context` up to the last output plus `right_context`; every other
    input (an i-vector) at time 0 alone, as in nnet3's egs.

    Args:
        frames: length of the chunk, in input frames.
        left_context, right_context: input frames beyond the first and last output.
        subsampling: the frame subsampling factor.
        outputs: names of the outputs wanted; all by default.
    """
    count = -(-frames // subsampling)
    wanted = TimeRange(0, count, subsampling)
    names = outputs if outputs is not None else tuple(n.name for n in network.outputs())
    given = TimeRange(-left_context, left_context + wanted.last + 1 + right_context)
    return Request(
        inputs=tuple(
            (n.name, given if n.name == "input" else TimeRange(0, 1)) for n in network.inputs()
        ),
        outputs=tuple((name, wanted) for name in names),
    )
