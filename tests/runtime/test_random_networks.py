"""Random networks: the compiled module, and every pass on the way to it, agree with the oracle."""

import pytest
import torch

from nnet.components.registry import component_types
from nnet.components.reshape import Distribute
from nnet.modules.registry import make_module
from nnet.passes.base import run_passes
from nnet.passes.pipeline import TEST
from nnet.plan.layout import bind
from nnet.plan.lower import lower
from nnet.runtime.compiled import compile_network
from nnet.runtime.executor import Executor
from nnet.runtime.oracle import interpret
from tests.random_networks import INPUT_DIMS, REQUEST, random_network, random_recurrent_network
from tests.slopes import check_slopes

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


@every(2)
def test_gradients_are_the_slopes_of_the_oracle(make, seed):
    check_slopes(make(seed), REQUEST, random_inputs(seed), seed)
