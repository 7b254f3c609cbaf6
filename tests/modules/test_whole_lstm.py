"""An LSTM layer's loop in one kernel gives what it gives step by step."""

import pytest
import torch

import nnet
from nnet.modules.whole_lstm import WholeLstm
from nnet.plan.layout import bind
from nnet.plan.loops import Loop
from nnet.plan.lstm_loops import find_lstm
from nnet.training.natural_sgd import NaturalGradientSGD

LAYERS = {
    "projected": "fast-lstmp-layer cell-dim=9 recurrent-projection-dim=3 "
    "non-recurrent-projection-dim=2 delay=-3",
    "backward in time": "fast-lstmp-layer cell-dim=9 recurrent-projection-dim=3 "
    "non-recurrent-projection-dim=2 delay=2 decay-time=20",
    "without projection": "fast-lstm-layer cell-dim=5 delay=-1",
}


def network(layer):
    return nnet.build(
        f"input name=input dim=4\n{layer.replace(' ', ' name=l1 input=Append(-1,0,1) ', 1)}\n"
        "output-layer name=output dim=3\n"
    )


def trained(layer, kernels, minibatches=2):
    """The network after some minibatches, and the objectives."""
    torch.manual_seed(0)
    module = nnet.compile(network(layer), kernels=kernels).train()
    optimizer = NaturalGradientSGD(module)
    request = module.chunk_request(11)
    objectives = []
    for number in range(minibatches):
        generator = torch.Generator().manual_seed(number)
        frames = dict(request.inputs)["input"].count
        features = torch.randn(2, frames, 4, generator=generator)
        targets = torch.randint(0, 3, (2, 11), generator=generator)
        torch.manual_seed(number)
        optimizer.zero_grad()
        output = module({"input": features}, request)["output"]
        loss = torch.nn.functional.nll_loss(output.mT, targets, reduction="sum")
        loss.backward()
        optimizer.step(sequences=2)
        objectives.append(loss.item())
    return module.to_network(), objectives


@pytest.mark.parametrize("name", LAYERS)
def test_training_by_the_kernel_is_training_step_by_step(name):
    expected, objectives = trained(LAYERS[name], "reference")
    found, own = trained(LAYERS[name], "triton")
    assert own == pytest.approx(objectives, rel=1e-5)
    for component, theirs in expected.components.items():
        for key, wanted in theirs.parameters().items():
            ours = torch.tensor(found.components[component].parameters()[key])
            torch.testing.assert_close(ours, torch.tensor(wanted), rtol=1e-4, atol=1e-5)
        for key in ("num_clipped", "count", "count_zeroing_boundaries", "self_repair_prob"):
            if hasattr(theirs, key):
                assert getattr(found.components[component], key) == pytest.approx(
                    getattr(theirs, key), rel=1e-5
                )


def wholes(text):
    """For each loop of a network, whether it is run as a whole."""
    module = nnet.compile(nnet.build(text), kernels="triton")
    layout = bind(module.plan, module.chunk_request(11))
    modules = {name: module._component(name) for name in module.plan.components}
    found = []
    for group in module.plan.groups:
        if isinstance(group, Loop):
            structure = find_lstm(module.plan, group)
            visible = [] if structure is None else [structure.lstm]
            found.append(WholeLstm.of(module.plan, layout, group, modules, visible))
    return [whole is not None for whole in found]


def test_which_loops_are_run_as_a_whole():
    lines = "input name=input dim=4\n{}\noutput-layer name=output dim=3\n"
    assert wholes(lines.format("fast-lstm-layer name=a cell-dim=5 delay=-3")) == [True]
    assert wholes(lines.format("lstm-layer name=a cell-dim=5 delay=-3")) == [False]
    assert wholes(lines.format("fast-gru-layer name=a cell-dim=5 delay=-3")) == [False]
    dropout = "fast-lstmp-layer name=a cell-dim=8 delay=-3 dropout-proportion=0.1"
    assert wholes(lines.format(dropout)) == [False]
