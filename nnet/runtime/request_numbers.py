"""Requests as lists of numbers, which an operator of torch's can be called with.

They may be symbolic while torch traces a program, so that one program serves many requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nnet.plan.request import AnyTimes, Request, TimeList, TimeRange

WHOLE = (0,)
"""No request: whole utterances."""

A_RANGE = -1
"""Stands before a start, a count and a step; another number, before that many times."""


def numbers_of(request: Request | None) -> list[int]:
    """The times of a request's inputs, then of its outputs."""
    if request is None:
        return list(WHOLE)
    numbers: list[int] = []
    for _, times in (*request.inputs, *request.outputs):
        if isinstance(times, TimeRange):
            numbers += [A_RANGE, times.start, times.count, times.step]
        else:
            numbers += [len(times.times), *times.times]
    return numbers


def request_of(
    numbers: Sequence[int], inputs: Sequence[str], outputs: Sequence[str]
) -> Request | None:
    """The request of `numbers_of`, with its names."""
    if tuple(numbers) == WHOLE:
        return None
    pairs = tuple(zip((*inputs, *outputs), map(_times, _each(numbers)), strict=True))
    return Request(pairs[: len(inputs)], pairs[len(inputs) :])


def counts_of(
    numbers: Sequence[int], inputs: Sequence[str], outputs: Sequence[str], frames: int
) -> list[int]:
    """The rows of each output; of whole utterances there are `frames`."""
    if len(numbers) == len(WHOLE):
        return [frames] * len(outputs)
    each = list(_each(numbers))[len(inputs) :]
    return [part[2] if part[0] == A_RANGE else part[0] for part in each]


def _each(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """The numbers of each input and output."""
    first = 0
    while first < len(numbers):
        end = first + (4 if numbers[first] == A_RANGE else 1 + numbers[first])
        yield numbers[first:end]
        first = end


def _times(numbers: Sequence[int]) -> AnyTimes:
    kind, *times = numbers
    return TimeRange(*times) if kind == A_RANGE else TimeList(tuple(times))
