"""Random networks: the compiled module, and every pass on the way to it, agree with the oracle."""

import pytest
import torch

from nnet.modules.compiled import compile_network
from nnet.modules.executor import Executor
from nnet.modules.oracle import interpret
from nnet.modules.registry import make_module
from nnet.passes.base import run_passes
from nnet.passes.pipeline import TEST
from nnet.plan.layout import bind
from nnet.plan.lower import lower
from nnet.plan.request import Request, TimeRange
from tests.random_networks import random_network

SEEDS = range(150)
REQUEST = Request.of(
    {"input": TimeRange(-30, 66), "ivector": TimeRange(0, 1)}, {"output": TimeRange(-2, 4, 3)}
)


def inputs_for(request, seed, batch=2):
    generator = torch.Generator().manual_seed(seed)
    dims = {"input": 5, "ivector": 3}
    return {
        name: torch.randn(batch, times.count, dims[name], generator=generator).double()
        for name, times in request.inputs
    }


def needed(network, inputs):
    names = {node.name for node in network.inputs()}
    return {name: tensor for name, tensor in inputs.items() if name in names}


def run_plan(plan, request, inputs, *, exact):
    modules = {n: make_module(spec).double().eval() for n, spec in plan.components.items()}
    rows = {name: tensor.transpose(0, 1) for name, tensor in inputs.items()}
    with torch.no_grad():
        result = Executor(plan, bind(plan, request, exact=exact), modules).run(rows)
    return result["output"].transpose(0, 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_pass_keeps_the_result(seed):
    network = random_network(seed)
    inputs = needed(network, inputs_for(REQUEST, seed))
    expected = interpret(network, REQUEST, inputs)["output"]
    plan = lower(network)
    plans = [("lowered", plan)]
    run_passes(plan, TEST, lambda name, after: plans.append((name, after)))
    for name, after in plans:
        for exact in (True, False):
            result = run_plan(after, REQUEST, inputs, exact=exact)
            torch.testing.assert_close(
                result, expected, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
            )


@pytest.mark.parametrize("seed", SEEDS)
def test_trainable_module_is_the_network(seed):
    network = random_network(seed)
    inputs = needed(network, inputs_for(REQUEST, seed))
    expected = interpret(network, REQUEST, inputs)["output"]
    module = compile_network(network).double().eval()
    result = module(inputs, REQUEST)["output"]
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS[:60])
def test_gradients_are_the_slopes_of_the_oracle(seed):
    network = random_network(seed)
    inputs = needed(network, inputs_for(REQUEST, seed))
    generator = torch.Generator().manual_seed(seed + 1)
    module = compile_network(network).double().eval()
    inputs["input"].requires_grad_()
    result = module(inputs, REQUEST)["output"]
    weights = torch.randn(result.shape, generator=generator).double()
    gradient = torch.zeros_like(inputs["input"])
    if result.requires_grad:
        (result * weights).sum().backward()
        gradient = gradient if inputs["input"].grad is None else inputs["input"].grad
    direction = torch.randn(inputs["input"].shape, generator=generator).double()
    step = 1e-5

    def objective(distance):
        moved = {**inputs, "input": inputs["input"].detach() + distance * direction}
        return (interpret(network, REQUEST, moved)["output"] * weights).sum()

    slope = (objective(step) - objective(-step)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=2e-4, atol=2e-4)
