"""Golden components and networks with `kernels="triton"`: outputs are Kaldi's, gradients those of
plain torch in float64. Operations that have no kernel run in plain torch; no case is left out."""

import pytest
import torch

from nnet.graph.context import context
from nnet.inference.chunks import ChunkedInference
from nnet.kernels.gpu import KERNELS, Configuration
from nnet.modelfile.model import read_model
from nnet.plan.request import Request, TimeRange, chunk_request
from nnet.runtime.compiled import compile_network
from tests.kernels.triton_cases import DEVICE
from tests.support import (
    COMPONENT_OUTPUTS,
    GOLDEN,
    cases,
    last_model,
    outputs_of_net,
    relative_error,
    table,
    utterances,
)
from tools.ahead_of_time import import_kernels

COMPONENT_LIMIT = 1e-5
NET_LIMIT = 1e-4
NET_GRADIENT_LIMIT = 5e-5
"""Plain torch in float32 is up to 4e-5 away from float64 (fast_gru_family)."""
SHARE = 0.05
"""Of the largest gradient's norm: gradients below it are measured against that. A bias before
batch-norm has a gradient of zero but for rounding."""
LARGE = 128


@pytest.fixture(autouse=True)
def large_blocks(monkeypatch):
    """Blocks that hold a whole golden case: the interpreter takes as long for small ones, and other
    tests are for those."""
    import_kernels()
    for kernel in KERNELS.values():
        constants = kernel.interpreted.constants
        large = {name: max(value, LARGE) for name, value in constants.items()}
        monkeypatch.setattr(kernel, "interpreted", Configuration(large))


def output_error(path, output, options, test_mode):
    network = read_model(last_model(path)).network
    module = compile_network(
        network, outputs=("output",), test_mode=test_mode, kernels="triton"
    ).to(DEVICE)
    expected = table(path / output)
    results = ChunkedInference(module.eval(), options).run(utterances(path)[:1])
    return max(relative_error(rows, expected[name]) for name, rows in results)


@pytest.mark.parametrize("case", cases("components"))
def test_outputs_of_a_component(case):
    output, options = next(iter(COMPONENT_OUTPUTS.items()))
    assert output_error(GOLDEN / "components" / case, output, options, False) < COMPONENT_LIMIT


@pytest.mark.parametrize("test_mode", [True, False], ids=["folded", "plain"])
@pytest.mark.parametrize("case", cases("nets", "output_whole.ark"))
def test_outputs_of_a_net(case, test_mode):
    path = GOLDEN / "nets" / case
    output, options = next(iter(outputs_of_net(path)))
    assert output_error(path, output, options, test_mode) < NET_LIMIT


def some_request(network, name):
    if name == "xvector":
        return Request.of({"input": TimeRange(0, 30)}, {"output": TimeRange(0, 1)})
    left, right = context(network)
    return chunk_request(network, 6, left_context=left, right_context=right, outputs=("output",))


def gradients(network, request, kernels, dtype, device):
    """Of inputs and parameters, in training, by name."""
    module = compile_network(network, outputs=("output",), kernels=kernels).to(device, dtype)
    module.train().set_dropout_proportion(0.0)
    generator = torch.Generator().manual_seed(0)
    dims = {node.name: node.dim for node in network.inputs()}
    inputs = {
        name: torch.randn(2, times.count, dims[name], generator=generator).to(device, dtype)
        for name, times in request.inputs
    }
    inputs["input"].requires_grad_()
    torch.manual_seed(0)  # for random masks
    result = module(inputs, request)["output"]
    weights = torch.randn(result.shape, generator=generator).to(device, dtype)
    if result.requires_grad:
        (result * weights).sum().backward()
    found = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {**found, "input": inputs["input"].grad}


def gradient_errors(path):
    network = read_model(last_model(path)).network
    request = some_request(network, path.name)
    expected = gradients(network, request, "reference", torch.float64, "cpu")
    found = gradients(network, request, "triton", torch.float32, DEVICE)
    assert found.keys() == expected.keys()
    present = {name: gradient for name, gradient in expected.items() if gradient is not None}
    least = SHARE * max((gradient.norm() for gradient in present.values()), default=0)
    return {
        name: float((found[name].cpu() - gradient).norm() / max(gradient.norm(), least))
        for name, gradient in present.items()
        if least > 0
    }


@pytest.mark.parametrize("case", cases("components"))
def test_gradients_of_a_component(case):
    errors = gradient_errors(GOLDEN / "components" / case)
    assert max(errors.values(), default=0) < COMPONENT_LIMIT, errors


@pytest.mark.parametrize("case", cases("nets"))
def test_gradients_of_a_net(case):
    errors = gradient_errors(GOLDEN / "nets" / case)
    assert max(errors.values()) < NET_GRADIENT_LIMIT, errors
