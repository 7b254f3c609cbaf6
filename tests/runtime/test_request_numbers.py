"""A request as numbers is the same request again."""

import pytest

from nnet.plan.request import Request, TimeList, TimeRange
from nnet.runtime.request_numbers import counts_of, numbers_of, request_of

INPUTS = {"input": TimeRange(-3, 40), "ivector": TimeRange(0, 1)}
REQUESTS = [
    Request.of(INPUTS, {"output": TimeRange(0, 12, 3), "output-xent": TimeRange(0, 4)}),
    Request.of(INPUTS, {"output": TimeList((-1, 5, 6)), "output-xent": TimeRange(0, 0)}),
    Request.of({"input": TimeList((2, 9))}, {"output": TimeList((4,))}),
]


def names_of(request):
    return [name for name, _ in request.inputs], [name for name, _ in request.outputs]


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_comes_back(request_):
    numbers, names = numbers_of(request_), names_of(request_)
    assert request_of(numbers, *names) == request_
    wanted = [times.count for _, times in request_.outputs]
    assert counts_of(numbers, *names, frames=7) == wanted


def test_no_request_is_whole_utterances():
    numbers = numbers_of(None)
    assert request_of(numbers, [], ["output"]) is None
    assert counts_of(numbers, [], ["output", "output-xent"], frames=7) == [7, 7]
