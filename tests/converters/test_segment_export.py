"""A torch.export program of a network for segments gives one vector a chunk."""

from __future__ import annotations

import io

import torch

from nnet.converters.targets.torch_export import torch_export_bytes
from nnet.modelfile.model import read_model
from nnet.plan.request import Request, TimeRange
from nnet.runtime.compiled import compile_network
from tests.support import GOLDEN, last_model, utterances


def test_the_vector_is_that_of_the_chunk() -> None:
    case = GOLDEN / "nets" / "xvector"
    network = read_model(last_model(case)).network
    program = torch.export.load(io.BytesIO(torch_export_bytes(network, frames=40))).module()
    rows = torch.from_numpy(utterances(case)[0].features[None, :40])
    module = compile_network(network, test_mode=True, outputs=("output",))
    request = Request.of({"input": TimeRange(0, 40)}, {"output": TimeRange(0, 1)})
    with torch.inference_mode():
        expected = module({"input": rows}, request)["output"][:, 0]
        given = program(rows)
    assert given.shape == expected.shape
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)
