"""A loop in one kernel gives what it gives step by step: every recurrent layer, and others."""

import pytest
import torch

import nnet
from nnet.modelfile.model import read_model
from nnet.modules import gru, statistics
from nnet.plan.groups import Loop
from nnet.plan.recurrence.translate import recurrence_of
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD
from tests.support import GOLDEN, last_model

PROJECTED = "cell-dim=8 recurrent-projection-dim=3 non-recurrent-projection-dim=2"
LAYERS = (
    f"fast-lstmp-layer {PROJECTED} delay=-3",
    f"fast-lstmp-layer {PROJECTED} delay=2 decay-time=20",
    f"fast-lstmp-layer {PROJECTED} dropout-proportion=0.3 delay=-3",
    "fast-lstm-layer cell-dim=5 delay=-1",
    "lstm-layer cell-dim=5 delay=-3 decay-time=20",
    f"lstmp-layer {PROJECTED} dropout-proportion=0.1 delay=-2",
    f"lstmp-batchnorm-layer {PROJECTED}",
    "lstmb-layer cell-dim=6 bottleneck-dim=3",
    "gru-layer cell-dim=5",
    f"pgru-layer {PROJECTED}",
    f"norm-pgru-layer {PROJECTED} dropout-proportion=0.1 delay=-2",
    f"opgru-layer {PROJECTED} delay=3",
    f"norm-opgru-layer {PROJECTED}",
    "fast-gru-layer cell-dim=5 delay=2",
    f"fast-pgru-layer {PROJECTED}",
    f"fast-norm-pgru-layer {PROJECTED} dropout-proportion=0.1",
    f"fast-opgru-layer {PROJECTED} delay=-3",
    f"fast-norm-opgru-layer {PROJECTED}",
)

RECTIFIED = """
input-node name=input dim=4
component name=into type=NaturalGradientAffineComponent input-dim=7 output-dim=5
component name=bend type=RectifiedLinearComponent dim=5
component name=stretch type=NaturalGradientPerElementScaleComponent dim=5
component name=back type=AffineComponent input-dim=5 output-dim=3
component name=limit type=BackpropTruncationComponent dim=3 clipping-threshold=5 zeroing-threshold=3
component name=out type=AffineComponent input-dim=5 output-dim=3
component-node name=a component=into input=Append(input, IfDefined(Offset(memory, -2)))
component-node name=b component=bend input=a
component-node name=c component=stretch input=b
component-node name=d component=back input=c
component-node name=memory component=limit input=d
component-node name=e component=out input=c
output-node name=output input=e
"""
GATED = """
input-node name=input dim=4
component name=all-gates type=NaturalGradientAffineComponent input-dim=7 output-dim=12
component name=unit type=LstmNonlinearityComponent cell-dim=3
component name=keep type=BackpropTruncationComponent dim=6 scale=0.9
component name=end type=NaturalGradientAffineComponent input-dim=3 output-dim=3
component-node name=g component=all-gates input=Append(input, IfDefined(Offset(seen, 1)))
component-node name=u component=unit input=Append(g, IfDefined(Offset(cell, 1)))
dim-range-node name=m input-node=u dim-offset=3 dim=3
component-node name=k component=keep input=u
dim-range-node name=cell input-node=k dim-offset=0 dim=3
dim-range-node name=seen input-node=k dim-offset=3 dim=3
component-node name=o component=end input=m
output-node name=output input=o
"""
BOTH_WAYS = """
input name=input dim=4
fast-lstmp-layer name=past cell-dim=8 recurrent-projection-dim=3 delay=-2 input=input
fast-lstmp-layer name=future cell-dim=8 recurrent-projection-dim=3 delay=2 input=input
gru-layer name=down cell-dim=5 delay=-1 input=Append(past, future)
gru-layer name=up cell-dim=5 delay=1 input=Append(past, future)
output-layer name=output dim=3 input=Append(down, up)
"""


def in_a_network(layer):
    named = layer.replace(" ", " name=l1 input=Append(-1,0,1) ", 1)
    return f"input name=input dim=4\n{named}\noutput-layer name=output dim=3\n"


NETWORKS = {layer.split()[0] + str(n): in_a_network(layer) for n, layer in enumerate(LAYERS)}
NETWORKS |= {"rectified": RECTIFIED, "gated": GATED, "both ways": BOTH_WAYS}


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Statistics of every step are stored, and every step is repaired: chance is in another order
    for steps one by one."""
    for module in (statistics, gru):
        monkeypatch.setattr(module, "chance", lambda: 0.0)


FRAMES = 4


def trained(text, kernels):
    """The network after two minibatches, and the objectives."""
    torch.manual_seed(0)
    module = nnet.compile(nnet.build(text), kernels=kernels).train()
    optimizer = NaturalGradientSGD(module)
    request = module.chunk_request(FRAMES)
    ((name, times),) = request.inputs
    objectives = []
    for number in range(2):
        generator = torch.Generator().manual_seed(number)
        features = torch.randn(2, times.count, 4, generator=generator)
        targets = torch.randint(0, 3, (2, FRAMES), generator=generator)
        torch.manual_seed(number)
        optimizer.zero_grad()
        output = module({name: features}, request)["output"].log_softmax(-1)
        loss = torch.nn.functional.nll_loss(output.mT, targets, reduction="sum")
        loss.backward()
        optimizer.step(sequences=2)
        objectives.append(loss.item())
    return module.to_network(), objectives


STATISTICS = (
    "num_clipped",
    "count",
    "count_zeroing_boundaries",
    "self_repair_prob",
    "self_repair_total",
    "value_avg",
    "deriv_avg",
    "oderiv_rms",
    "nonlinearity_count",
)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_by_one_kernel_is_training_step_by_step(name):
    expected, objectives = trained(NETWORKS[name], "reference")
    found, own = trained(NETWORKS[name], "triton")
    assert own == pytest.approx(objectives, rel=1e-5)
    for component, theirs in expected.components.items():
        ours = found.components[component]
        for key, wanted in theirs.parameters().items():
            mine = torch.tensor(ours.parameters()[key])
            torch.testing.assert_close(mine, torch.tensor(wanted), rtol=1e-4, atol=1e-5)
        for key in STATISTICS:
            if hasattr(theirs, key):
                close = pytest.approx(getattr(theirs, key), rel=1e-4, abs=1e-5)
                assert getattr(ours, key) == close, (component, key)


def test_torch_compiles_and_exports_what_is_around_the_operator():
    module = nnet.compile(nnet.build(GATED), kernels="triton").train()
    request = module.chunk_request(3)
    ((name, times),) = request.inputs
    x = torch.randn(2, times.count, 4, generator=torch.Generator().manual_seed(0))

    class Output(torch.nn.Module):
        def forward(self, x):
            return module({name: x}, request)["output"]

    gradients = []
    for output in (Output(), torch.compile(Output(), backend="aot_eager")):
        module.zero_grad()
        output(x).sum().backward()
        gradients.append([p.grad.clone() for p in module.parameters()])
    for found, expected in zip(*reversed(gradients), strict=True):
        torch.testing.assert_close(found, expected)
    with torch.no_grad():
        program = torch.export.export(Output(), (x,), strict=False)
        torch.testing.assert_close(program.module()(x), Output()(x))
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "nnet.recurrence.default" in called


def loops_of(text):
    """For each launch of a network's loops, how many loops it runs; 0 for one run step by step."""
    module = nnet.compile(nnet.build(text), kernels="triton")
    request = module.chunk_request(11)
    dims = {node.name: node.dim for node in module.network.inputs()}
    inputs = {name: torch.zeros(2, times.count, dims[name]) for name, times in request.inputs}
    module({name: x.requires_grad_() for name, x in inputs.items()}, request)
    loops = module._executor(request, inputs)[0]._loops
    groups = [group for group in loops.groups if isinstance(group, tuple)]
    return [len(group) if loops.are_whole(group) else 0 for group in groups]


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "both ways"])
def test_a_layer_is_one_launch(name):
    assert loops_of(NETWORKS[name]) == [1]


def test_loops_that_do_not_need_each_other_are_one_launch():
    assert loops_of(BOTH_WAYS) == [2, 2]
    other = BOTH_WAYS.replace("name=future cell-dim=8", "name=future cell-dim=12")
    assert loops_of(other) == [1, 1, 2]


def test_what_is_no_recurrence_is_run_step_by_step():
    two_delays = RECTIFIED.replace(
        "Append(input, IfDefined(Offset(memory, -2)))",
        "Append(input, Sum(IfDefined(Offset(memory, -2)), IfDefined(Offset(memory, -1))))",
    )
    assert loops_of(two_delays) == [0]
    clipped = RECTIFIED.replace("BackpropTruncation", "ClipGradient").replace(
        " zeroing-threshold=3", ""
    )
    assert loops_of(clipped) == [0]


def test_a_loop_for_some_frames_only():
    """A third of the frames, and the last row's state, are not wanted."""
    network = nnet.build(in_a_network(LAYERS[0]))
    inputs = {}
    outputs = []
    for kernels in ("reference", "triton"):
        module = nnet.compile(network, kernels=kernels).eval()
        request = module.chunk_request(12, subsampling=3)
        count = dict(request.inputs)["input"].count
        inputs["input"] = torch.randn(2, count, 4, generator=torch.Generator().manual_seed(0))
        outputs.append(module(inputs, request)["output"])
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("net", ["blstmp", "gru_family", "lstm", "lstmb", "norm_gru_family"])
def test_loops_of_golden_nets_are_recurrences(net):
    network = read_model(last_model(GOLDEN / "nets" / net)).network
    plan = nnet.compile(network, outputs=("output",)).plan
    loops = [group for group in plan.groups if isinstance(group, Loop)]
    assert loops
    assert all(recurrence_of(plan, loop) is not None for loop in loops)
