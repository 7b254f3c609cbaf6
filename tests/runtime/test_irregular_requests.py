"""Requests whose index sets are irregular: any times, and other ones for each sequence."""

import numpy as np
import pytest
import torch

from nnet.errors import NnetError
from nnet.modelfile.networks import build
from nnet.plan.request import Request, TimeList, TimeRange
from nnet.runtime.compiled import compile_network
from nnet.runtime.oracle import interpret
from tests.random_networks import INPUT_DIMS, REQUEST, random_network, random_recurrent_network

CASES = [*((random_network, seed) for seed in range(0, 300, 6))] + [
    (random_recurrent_network, seed) for seed in range(0, 100, 3)
]
GIVEN = dict(REQUEST.inputs)
WANTED = dict(REQUEST.outputs)["output"]


def tensors(request, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(times.count, INPUT_DIMS[name], generator=generator).double()
        for name, times in request.inputs
    }


def expected(network, request, inputs):
    batched = {name: rows.unsqueeze(0) for name, rows in inputs.items()}
    return {name: rows[0] for name, rows in interpret(network, request, batched).items()}


@pytest.mark.parametrize(("make", "seed"), CASES)
def test_each_sequence_has_its_own_request(make, seed):
    network = make(seed)
    rng = np.random.default_rng(seed)
    wanted = np.array(list(WANTED))
    requests = []
    for _ in range(3):
        some = np.sort(rng.choice(wanted, size=rng.integers(1, len(wanted) + 1), replace=False))
        requests.append(Request.of(GIVEN, {"output": TimeList(tuple(some.tolist()))}))
    requests.append(REQUEST)
    inputs = [tensors(request, seed + i) for i, request in enumerate(requests)]
    module = compile_network(network).double().eval()
    results = module.forward_each(inputs, requests)
    for result, request, given in zip(results, requests, inputs, strict=True):
        torch.testing.assert_close(result, expected(network, request, given), rtol=1e-9, atol=1e-9)


def test_a_list_of_times_for_a_whole_batch():
    network = random_recurrent_network(1)
    times = TimeList(tuple(sorted(set(list(WANTED)[::2]) | {list(WANTED)[1]})))
    request = Request.of(GIVEN, {"output": times})
    inputs = {name: rows.unsqueeze(0) for name, rows in tensors(request, 0).items()}
    result = compile_network(network).double().eval()(inputs, request)
    torch.testing.assert_close(result, interpret(network, request, inputs), rtol=1e-9, atol=1e-9)


def test_times_out_of_order_are_refused():
    with pytest.raises(NnetError, match="increasing order"):
        TimeList((0, 2, 1))


def test_missing_frames_are_named():
    text = "input dim=3 name=input\noutput-layer name=output dim=2 input=Append(-1,0,1)"
    request = Request.of({"input": TimeRange(0, 1)}, {"output": TimeRange(500, 1)})
    module = compile_network(build(text)).eval()
    with pytest.raises(NnetError, match="missing"):
        module.forward_each([{"input": torch.zeros(1, 3)}], [request])
