"""What is asked of a network: the times at which inputs are given and outputs wanted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nnet.errors import NnetError
from nnet.graph.network import Network


@dataclass(frozen=True)
class TimeRange:
    """Times `start, start + step, ...` (`count` of them), in frames."""

    start: int
    count: int
    step: int = 1

    def __post_init__(self) -> None:
        if self.count < 0 or self.step < 1:
            raise NnetError(
                f"a range of {self.count} times, {self.step} frames apart; expected: a count of 0 "
                "or more, and at least 1 frame"
            )

    @property
    def last(self) -> int:
        return self.start + (self.count - 1) * self.step

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.last + 1, self.step))

    def __str__(self) -> str:
        return f"{self.start}..{self.last}" + (f" by {self.step}" if self.step > 1 else "")


@dataclass(frozen=True)
class TimeList:
    """Any times, in increasing order."""

    times: tuple[int, ...]

    def __post_init__(self) -> None:
        if not all(isinstance(time, int) for time in self.times):
            raise NnetError("the times of a request must be integers, in frames")
        if any(b <= a for a, b in itertools.pairwise(self.times)):
            raise NnetError("the times of a request must be in increasing order, each once")

    @property
    def start(self) -> int:
        return self.times[0]

    @property
    def count(self) -> int:
        return len(self.times)

    @property
    def last(self) -> int:
        return self.times[-1]

    def __iter__(self) -> Iterator[int]:
        return iter(self.times)

    def __str__(self) -> str:
        return f"{self.count} times in {self.start}..{self.last}"


AnyTimes = TimeRange | TimeList


@dataclass(frozen=True)
class Request:
    """Index sets by name, for every sequence of the batch alike (nnet3's ComputationRequest).

    The batch size is not part of a request: a request's plan serves every batch size.
    """

    inputs: tuple[tuple[str, AnyTimes], ...]
    outputs: tuple[tuple[str, AnyTimes], ...]

    @staticmethod
    def of(inputs: Mapping[str, AnyTimes], outputs: Mapping[str, AnyTimes]) -> Request:
        return Request(tuple(inputs.items()), tuple(outputs.items()))


@dataclass(frozen=True)
class Joined:
    """Requests of several sequences as one: time t of sequence n at `spacing * n + origin + t`."""

    request: Request
    spacing: int
    origin: int

    @classmethod
    def of(cls, requests: Sequence[Request], modulus: int, reach: int) -> Joined:
        """Joins requests.

        Args:
            modulus: what times may be moved by.
            reach: in frames; no row depends on one further away.
        """
        ranges = [t for r in requests for _, t in (*r.inputs, *r.outputs) if t.count]
        first = min(0, *(t.start for t in ranges)) - reach
        last = max(0, *(t.last for t in ranges)) + reach
        origin = -(first // modulus) * modulus
        spacing = -(-(last + origin + 1) // modulus) * modulus

        def joined(sets: Sequence[Sequence[tuple[str, AnyTimes]]]) -> dict[str, AnyTimes]:
            names = dict.fromkeys(name for pairs in sets for name, _ in pairs)
            moved: dict[str, list[int]] = {name: [] for name in names}
            for number, pairs in enumerate(sets):
                for name, times in pairs:
                    moved[name] += [spacing * number + origin + t for t in times]
            return {name: TimeList(tuple(times)) for name, times in moved.items()}

        inputs = joined([r.inputs for r in requests])
        outputs = joined([r.outputs for r in requests])
        return cls(Request.of(inputs, outputs), spacing, origin)


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
    for name, number in (("frames", frames), ("subsampling", subsampling)):
        if not isinstance(number, int) or number < 1:
            raise NnetError(f"{name} is {number!r}; expected: a positive integer")
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
