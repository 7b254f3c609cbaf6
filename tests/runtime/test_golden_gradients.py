"""Gradients of golden components and networks are the slopes of the oracle."""

import pytest
import torch

from nnet.graph.context import context
from nnet.modelfile.model import read_model
from nnet.plan.request import Request, TimeRange, chunk_request
from tests.slopes import check_slopes
from tests.support import GOLDEN, cases, last_model

OWN_DERIVATIVE = ("noop", "clip_gradient", "lstm_nonlinearity_dropout")
"""Components whose derivative nnet3 defines otherwise: test_gradient_limits.py."""


def check(path, frames):
    network = read_model(last_model(path)).network
    if path.name == "xvector":
        request = Request.of({"input": TimeRange(0, 40)}, {"output": TimeRange(0, 1)})
    else:
        left, right = context(network)
        request = chunk_request(
            network, frames, left_context=left, right_context=right, outputs=("output",)
        )
    generator = torch.Generator().manual_seed(0)
    dims = {node.name: node.dim for node in network.inputs()}
    inputs = {
        name: torch.randn(2, times.count, dims[name], generator=generator).double()
        for name, times in request.inputs
    }
    check_slopes(network, request, inputs, seed=0)


@pytest.mark.parametrize(
    "case", [c for c in cases("components") if not c.startswith(OWN_DERIVATIVE)]
)
def test_component(case):
    check(GOLDEN / "components" / case, frames=9)


@pytest.mark.parametrize("case", cases("nets", "output_whole.ark"))
def test_net(case):
    check(GOLDEN / "nets" / case, frames=7)
