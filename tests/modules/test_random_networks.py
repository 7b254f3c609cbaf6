"""Random networks: the compiled module, and every pass on the way to it, agree with the oracle."""

import dataclasses

import numpy as np
import pytest
import torch

from nnet.components.registry import component_types
from nnet.components.reshape import Distribute
from nnet.modules.compiled import compile_network
from nnet.modules.executor import Executor
from nnet.modules.oracle import interpret
from nnet.modules.registry import make_module
from nnet.passes.base import run_passes
from nnet.passes.pipeline import TEST
from nnet.plan.layout import bind
from nnet.plan.lower import lower
from tests.random_networks import INPUT_DIMS, REQUEST, random_network, random_recurrent_network

CASES = [
    *((random_network, seed) for seed in range(300)),
    *((random_recurrent_network, seed) for seed in range(100)),
]


def every(step=1):
    """Runs a test for every network, or only for every second, third, ..."""
    chosen = CASES[::step]
    ids = [f"{make.__name__}-{seed}" for make, seed in chosen]
    return pytest.mark.parametrize(("make", "seed"), chosen, ids=ids)


def test_they_have_components_of_every_type():
    made = {spec.type_name for make, seed in CASES for spec in make(seed).components.values()}
    assert made == set(component_types())


def random_inputs(seed, batch=2):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(batch, times.count, INPUT_DIMS[name], generator=generator).double()
        for name, times in REQUEST.inputs
    }


def run_plan(plan, inputs, *, exact):
    modules = {
        name: make_module(spec).double().eval()
        for name, spec in plan.components.items()
        if not isinstance(spec, Distribute)  # in a plan it is columns of rows
    }
    rows = {name: tensor.transpose(0, 1) for name, tensor in inputs.items()}
    with torch.no_grad():
        result = Executor(plan, bind(plan, REQUEST, exact=exact), modules).run(rows)
    return result["output"].transpose(0, 1)


@every()
def test_every_pass_keeps_the_result(make, seed):
    network, inputs = make(seed), random_inputs(seed)
    expected = interpret(network, REQUEST, inputs)["output"]
    plan = lower(network)
    plans = [("lowered", plan)]
    run_passes(plan, TEST, lambda name, after: plans.append((name, after)))
    for name, after in plans:
        for exact in (True, False):
            result = run_plan(after, inputs, exact=exact)
            torch.testing.assert_close(
                result, expected, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
            )


@every()
def test_trainable_module_is_the_network(make, seed):
    network, inputs = make(seed), random_inputs(seed)
    expected = interpret(network, REQUEST, inputs)["output"]
    module = compile_network(network).double().eval()
    result = module(inputs, REQUEST)["output"]
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)


def moved(network, directions, distance):
    """The network with every parameter moved along its direction, in float64."""
    components = dict(network.components)
    for (name, parameter), direction in directions.items():
        components[name] = with_moved(components[name], parameter, distance * direction)
    return dataclasses.replace(network, components=components)


def with_moved(spec, parameter, change):
    """The component with a change added to a parameter, such as `linear` or `component1.linear`."""
    if "." not in parameter:
        array = getattr(spec, parameter).astype(np.float64)
        return dataclasses.replace(spec, **{parameter: array + change})
    inner, parameter = parameter.split(".")
    number = int(inner.removeprefix("component")) - 1
    components = list(spec.components)
    components[number] = with_moved(components[number], parameter, change)
    return dataclasses.replace(spec, components=tuple(components))


@every(2)
def test_gradients_are_the_slopes_of_the_oracle(make, seed):
    """Of inputs and parameters, along a random direction of all of them."""
    network, inputs = make(seed), random_inputs(seed)
    rng = np.random.default_rng(seed + 1)
    module = compile_network(network).double().eval()
    inputs["input"].requires_grad_()
    result = module(inputs, REQUEST)["output"]
    weights = torch.from_numpy(rng.normal(size=result.shape))
    if result.requires_grad:
        (result * weights).sum().backward()
    along = torch.from_numpy(rng.normal(size=inputs["input"].shape))
    directions = {
        (name, field): rng.normal(size=array.shape)
        for name, spec in network.components.items()
        for field, array in spec.parameters().items()
    }
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    total = torch.zeros((), dtype=torch.float64)
    if inputs["input"].grad is not None:
        total += (inputs["input"].grad * along).sum()
    for (name, field), direction in directions.items():
        gradient = gradients.get(f"components.{name}.{field}")
        if gradient is not None:
            total += (gradient * torch.from_numpy(direction)).sum()
    step = 1e-6

    def objective(distance):
        given = {**inputs, "input": inputs["input"].detach() + distance * along}
        return (
            interpret(moved(network, directions, distance), REQUEST, given)["output"] * weights
        ).sum()

    slope = (objective(step) - objective(-step)) / (2 * step)
    torch.testing.assert_close(total, slope, rtol=1e-4, atol=1e-4)
