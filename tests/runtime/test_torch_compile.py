"""torch.compile of a compiled network: one graph, no warnings, results and gradients as without."""

import copy
import gc
import logging
import warnings

import pytest
import torch
import torch._dynamo as dynamo

import nnet
from nnet.errors import NnetError
from nnet.plan.request import Request, TimeList, TimeRange
from nnet.runtime import operator
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD
from tests.support import golden_network

NETWORKS = ("tdnnf", "lstm", "fast_lstm_variants", "xvector", "cnn_tdnnf", "tdnn_batchnorm")
SMALL = """
input dim=4 name=input
relu-batchnorm-layer name=t dim=8 input=Append(-1,0,1)
tdnnf-layer name=f dim=8 bottleneck-dim=4 time-stride=1
output-layer name=output dim=3 param-stddev=0.5
"""


@pytest.fixture(autouse=True)
def fresh():
    dynamo.reset()
    dynamo.utils.counters.clear()


@pytest.fixture(autouse=True)
def nothing_is_warned_of(fresh, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def small(**options):
    return nnet.compile(nnet.build(SMALL, rng=1), **options)


def some_inputs(module, frames=21, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        node.name: torch.randn(
            batch, frames if node.name == "input" else 1, node.dim, generator=generator
        )
        for node in module.network.inputs()
    }


def some_call(module, name, seed=0):
    """Inputs and a request: of the x-vector network a segment's, else an utterance."""
    inputs = some_inputs(module, seed=seed)
    if name != "xvector":
        return inputs, None
    return inputs, Request.of({"input": TimeRange(0, 21)}, {"output": TimeRange(0, 1)})


def compiled(module, backend="aot_eager", **options):
    return torch.compile(module, backend=backend, fullgraph=True, **options)


def stepped(module, run, inputs, request=None):
    """Outputs, and the gradients of their squares for the parameters."""
    module.zero_grad()
    torch.manual_seed(0)
    outputs = run(inputs, request)
    sum(output.square().sum() for output in outputs.values()).backward()
    return outputs, {name: p.grad for name, p in module.named_parameters()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_one_graph(name):
    module = nnet.compile(golden_network(f"nets/{name}"))
    explained = dynamo.explain(module)(*some_call(module, name))
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_is_that_of_eager(name):
    network = golden_network(f"nets/{name}")
    ours, theirs = nnet.compile(network), nnet.compile(network)
    run = compiled(ours)
    for seed in range(2):
        call = some_call(ours, name, seed)
        found, expected = stepped(ours, run, *call), stepped(theirs, theirs, *call)
        for mine, wanted in zip(found, expected, strict=True):
            assert_same(mine, wanted)
    assert_same(dict(ours.named_buffers()), dict(theirs.named_buffers()))  # the statistics


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_inference_is_that_of_eager(name, gradient):
    module = nnet.compile(golden_network(f"nets/{name}"), test_mode=True, outputs=("output",))
    call = some_call(module, name)
    with torch.set_grad_enabled(gradient):
        assert_same(compiled(module)(*call), module(*call))


def test_inductor_gives_the_results_of_eager():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch._inductor.compile_fx  # noqa: F401 (it warns of itself)
    module = small()
    inputs = some_inputs(module)
    found = stepped(module, compiled(module, "inductor"), inputs)
    for mine, wanted in zip(found, stepped(module, module, inputs), strict=True):
        assert_same(mine, wanted)


def test_utterances_of_any_length_take_two_programs():
    module = small()
    run = compiled(module)
    for frames in (10, 13, 21, 34):
        inputs = some_inputs(module, frames)
        assert_same(run(inputs), module(inputs))
    assert dynamo.utils.counters["stats"]["unique_graphs"] == 2


def test_requests_are_taken():
    module = small()
    run = compiled(module)
    requests = [module.chunk_request(n, subsampling=3) for n in (9, 12, 30)]
    times = TimeList((0, 2, 7))
    requests.append(Request.of({"input": TimeRange(-5, 20)}, {"output": times}))
    for request in requests:
        inputs = some_inputs(module, dict(request.inputs)["input"].count)
        for mine, wanted in zip(
            stepped(module, run, inputs, request),
            stepped(module, module, inputs, request),
            strict=True,
        ):
            assert_same(mine, wanted)


def test_the_rows_of_the_only_input_will_do():
    module = small()
    x = some_inputs(module)["input"]
    assert_same(compiled(module)(x), module(x))


def test_a_network_within_another_module_passes_gradients_on():
    class Speech(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.front, self.network = torch.nn.Linear(6, 4), small()

        def forward(self, x, request=None):
            return {"mean": self.network(self.front(x).tanh())["output"].mean(1)}

    module = Speech()
    x = torch.randn(2, 15, 6)
    found = stepped(module, compiled(module), x)
    for mine, wanted in zip(found, stepped(module, module, x), strict=True):
        assert_same(mine, wanted)


def test_an_input_gets_its_gradient():
    module = small()
    x = some_inputs(module)["input"]
    gradients = []
    for run in (compiled(module), module):
        given = x.clone().requires_grad_()
        run({"input": given})["output"].square().sum().backward()
        gradients.append(given.grad)
    torch.testing.assert_close(*gradients)


def test_dropout_is_drawn_anew():
    text = SMALL.replace(
        "tdnnf-layer", "relu-dropout-layer name=d dim=8 dropout-proportion=0.5\ntdnnf-layer"
    )
    module = nnet.compile(nnet.build(text, rng=1))
    inputs = some_inputs(module)

    def twice(inputs):
        return module(inputs)["output"], module(inputs)["output"]

    first, second = torch.compile(twice, backend="aot_eager", fullgraph=True)(inputs)
    assert not torch.equal(first, second)


def test_the_present_mode_and_parameters_count():
    module = small()
    inputs = some_inputs(module)
    run = compiled(module)
    run(inputs)
    module.eval()
    assert_same(run(inputs), module(inputs))
    with torch.no_grad():
        next(module.parameters()).mul_(2)
    assert_same(run(inputs), module(inputs))


def test_a_frozen_parameter_gets_no_gradient():
    module = small()
    inputs, run = some_inputs(module), compiled(module)
    stepped(module, run, inputs)
    frozen = next(module.parameters())
    frozen.requires_grad_(False)
    frozen.grad = None
    found = stepped(module, run, inputs)[1]
    assert frozen.grad is None
    assert sum(gradient is None for gradient in found.values()) == 1


def test_a_hook_of_a_parameter_is_called_once():
    module = small()
    calls = []
    parameter = next(module.parameters())
    parameter.register_hook(lambda gradient: calls.append(1) or gradient * 2)
    inputs = some_inputs(module)
    found = stepped(module, compiled(module), inputs)
    assert len(calls) == 1
    for mine, wanted in zip(found, stepped(module, module, inputs), strict=True):
        assert_same(mine, wanted)


def test_other_parameters_can_take_the_place_of_its_own():
    module = small()
    inputs = some_inputs(module)
    others = {name: p.detach() * 1.5 for name, p in module.named_parameters()}

    def run(others, inputs):
        return torch.func.functional_call(module, others, (inputs,))["output"]

    gradients = []
    for call in (torch.compile(run, backend="aot_eager", fullgraph=True), run):
        leaves = {name: p.clone().requires_grad_() for name, p in others.items()}
        call(leaves, inputs).square().sum().backward()
        gradients.append({name: p.grad for name, p in leaves.items()})
    assert_same(*gradients)


def test_natural_gradient_sees_the_same():
    trained = []
    for compile_it in (True, False):
        module = small()
        optimizer = NaturalGradientSGD(module, momentum=0.5)
        run = compiled(module) if compile_it else module
        for seed in range(4):
            stepped(module, run, some_inputs(module, seed=seed))
            optimizer.step(sequences=2)
        trained.append(module.state_dict())
    assert_same(*trained)


def test_a_derivative_may_be_kept_in_16_bits():
    module = small(memory_compression_level=2)
    inputs = some_inputs(module)
    found, expected = stepped(module, compiled(module), inputs), stepped(module, module, inputs)
    for mine, wanted in zip(found, expected, strict=True):
        assert_same(mine, wanted)


def test_autocast_gives_its_type():
    module = small()
    inputs = some_inputs(module)
    run = compiled(module)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = run(inputs)["output"], module(inputs)["output"]
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected)


def test_inference_mode_is_taken():
    module = small()
    inputs, run = some_inputs(module), compiled(module)
    with torch.inference_mode():
        assert_same(run(inputs), module(inputs))


def test_a_copy_is_a_network_of_its_own():
    module = small()
    twin = copy.deepcopy(module)
    with torch.no_grad():
        next(twin.parameters()).mul_(2)
    inputs = some_inputs(module)
    assert_same(compiled(module)(inputs), module(inputs))
    assert_same(compiled(twin)(inputs), twin(inputs))


def test_graphs_without_a_backward_pass_are_let_go():
    module = small()
    outputs = compiled(module)(some_inputs(module))
    assert len(operator._RUNS) == 1
    del outputs
    gc.collect()
    assert not operator._RUNS


@pytest.mark.parametrize("utility", ["schema", "faketensor", "autograd_registration"])
def test_torch_finds_the_operator_well_made(utility):
    module = small()
    x = some_inputs(module)["input"].requires_grad_()
    names = "input\n\noutput"
    arguments = (
        [x],
        [*module.parameters()],
        f"{module._operator_key} 0",
        names,
        [0],
        [True],
        True,
        "",
    )
    torch.library.opcheck(torch.ops.nnet.network.default, arguments, test_utils=f"test_{utility}")


def test_wrong_inputs_are_told_as_without_it():
    module = small()
    run = torch.compile(module, backend="aot_eager")
    for wrong in (
        {"inputs": torch.zeros(1, 9, 4)},
        {"input": torch.zeros(1, 9, 5)},
        {"input": torch.zeros(9, 4)},
        {"input": torch.zeros(1, 9, 4).double()},
    ):
        with pytest.raises(NnetError) as expected:
            module(wrong)
        with pytest.raises(NnetError) as found:
            run(wrong)
        assert str(found.value) == str(expected.value)
