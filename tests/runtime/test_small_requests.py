"""Requests of 1 to 8 frames, with no more context than the network says that it needs, give what
the oracle gives, or an error where it has one."""

from functools import cache

import pytest
import torch

from nnet.errors import NnetError
from nnet.graph.context import context
from nnet.modelfile.model import read_model
from nnet.plan.request import chunk_request
from nnet.runtime.compiled import compile_network
from nnet.runtime.oracle import interpret
from tests.random_networks import random_network, random_recurrent_network
from tests.support import GOLDEN, cases, last_model

LENGTHS = range(1, 9)
RANDOM = [
    *((random_network, seed) for seed in range(0, 300, 1)),
    *((random_recurrent_network, seed) for seed in range(0, 100, 1)),
]


@cache
def golden(folder, case):
    return read_model(last_model(GOLDEN / folder / case)).network


def small_inputs(network, request, dtype=torch.float32):
    generator = torch.Generator().manual_seed(request.inputs[0][1].count)
    dims = {node.name: node.dim for node in network.inputs()}
    return {
        name: torch.randn(2, times.count, dims[name], generator=generator).to(dtype)
        for name, times in request.inputs
    }


def result(compute, *args):
    try:
        return compute(*args)
    except NnetError:
        return None


def check(network, lengths=LENGTHS, subsampling=1, dtype=torch.float32, limit=2e-4):
    module = compile_network(network).eval().to(dtype)
    left, right = result(context, network) or (0, 0)
    for frames in lengths:
        request = chunk_request(
            network, frames, left_context=left, right_context=right, subsampling=subsampling
        )
        inputs = small_inputs(network, request, dtype)
        expected = result(interpret, network, request, inputs)
        ours = result(module, inputs, request)
        assert (ours is None) == (expected is None), frames
        if ours is not None and expected is not None:
            for name, rows in expected.items():
                torch.testing.assert_close(ours[name].double(), rows, rtol=limit, atol=limit)


@pytest.mark.parametrize("case", cases("components"))
def test_a_golden_component(case):
    check(golden("components", case))


@pytest.mark.parametrize("case", cases("nets"))
def test_a_golden_net(case):
    check(golden("nets", case), lengths=(1, 2, 5, 8))
    check(golden("nets", case), lengths=(3, 7), subsampling=3)


@pytest.mark.parametrize(("make", "seed"), RANDOM)
def test_a_random_network(make, seed):
    check(make(seed), dtype=torch.float64, limit=1e-9)


def test_an_xvector_network_without_a_frame_for_its_statistics_says_so():
    module = compile_network(golden("nets", "xvector"), test_mode=True)
    request = module.chunk_request(4)
    with pytest.raises(NnetError, match=r"'stats-pooling-0-10000' cannot be computed at t = 0..3"):
        module(small_inputs(module.network, request), request)
