"""Gradients of compiled networks against differences of the oracle, in float64."""

import dataclasses

import numpy as np
import torch

from nnet.runtime.compiled import compile_network
from nnet.runtime.oracle import interpret

STEP = 1e-6
SMALL = 1e-4


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


def check_slopes(network, request, inputs, seed, output="output", tolerance=1e-4):
    """Of inputs and parameters, along a random direction of all of them.

    The objective is small, so that what limits large derivatives lets it through.
    """
    rng = np.random.default_rng(seed + 1)
    module = compile_network(network, outputs=(output,)).double().eval()
    inputs = {**inputs, "input": inputs["input"].clone().requires_grad_()}
    result = module(inputs, request)[output]
    weights = torch.from_numpy(rng.normal(size=result.shape))
    if result.requires_grad:
        (result * weights * SMALL).sum().backward()
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
        gradient = gradients.get(f"components.{name.replace('.', '/')}.{field}")
        if gradient is not None:
            total += (gradient * torch.from_numpy(direction)).sum()

    def objective(distance):
        given = {**inputs, "input": inputs["input"].detach() + distance * along}
        changed = moved(network, directions, distance)
        return (interpret(changed, request, given)[output] * weights).sum()

    slope = (objective(STEP) - objective(-STEP)) / (2 * STEP)
    torch.testing.assert_close(total / SMALL, slope, rtol=tolerance, atol=tolerance)
