"""A compiled network that was used is no island: copies, changes and exchanges of its components
give what a new network with the same parameters gives."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel

from nnet.runtime.compiled import compile_network

LAYERS = {
    "tdnn": """input dim=4 name=input
relu-batchnorm-layer name=a dim=8 input=Append(-1,0,1)
relu-batchnorm-layer name=b dim=8
output-layer name=output dim=6
""",
    "lstm": """input dim=4 name=input
lstm-layer name=l cell-dim=16 delay=-1
output-layer name=output dim=6
""",
    "gru": """input dim=4 name=input
fast-opgru-layer name=g cell-dim=16 delay=-1
output-layer name=output dim=6
""",
}
FRAMES, BATCH = 9, 64


@pytest.fixture(scope="module")
def x():
    return torch.randn(BATCH, FRAMES, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=sorted(LAYERS))
def network(request, x):
    import nnet

    torch.manual_seed(0)
    module = nnet.compile(nnet.build(LAYERS[request.param]))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.3)
    module({"input": x})  # batch-norm has statistics now
    return module.to_network()


def used(network, x, **options):
    """A compiled network that has computed, with and without a derivative."""
    module = compile_network(network, **options).eval()
    with torch.no_grad():
        module({"input": x})
    module({"input": x})["output"].sum()
    return module


def output(module, x):
    with torch.no_grad():
        return module({"input": x})["output"]


def expected(module, x):
    """What the reference gives with the parameters that the network has now."""
    plain = compile_network(module.to_network(), kernels="reference").eval()
    return output(plain.to(x.dtype), x)


def is_right(module, x):
    torch.testing.assert_close(output(module, x), expected(module, x), rtol=1e-4, atol=1e-5)
    return True


def change(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.7)


def saved(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "torch.save": saved,
}
used_or_not = pytest.mark.parametrize("use", [False, True], ids=["new", "used"])


@used_or_not
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_computes_with_its_own_parameters(network, x, way, use):
    module = used(network, x) if use else compile_network(network).eval()
    before = output(module, x)
    twin = COPIES[way](module)
    change(twin)
    assert is_right(twin, x)
    assert torch.equal(output(module, x), before)


@used_or_not
def test_an_averaged_model_stays_when_the_model_is_trained_on(network, x, use):
    module = used(network, x) if use else compile_network(network).eval()
    average = AveragedModel(module)
    before = output(average, x)
    change(module)
    assert torch.equal(output(average, x), before)
    average.update_parameters(module)
    assert is_right(average.module, x)


@used_or_not
def test_a_copy_in_float64(network, x, use):
    module = used(network, x) if use else compile_network(network).eval()
    assert is_right(copy.deepcopy(module).to(torch.float64), x.double())
    assert is_right(module, x)


@used_or_not
@pytest.mark.parametrize("test_mode", [False, True], ids=["trainable", "test-mode"])
def test_load_state_dict(network, x, use, test_mode):
    module = compile_network(network, test_mode=test_mode).eval()
    if use:
        module = used(network, x, test_mode=test_mode)
    state = {
        name: 1.3 * value if isinstance(value, torch.Tensor) else value
        for name, value in module.state_dict().items()
    }
    other = compile_network(network, test_mode=test_mode).eval()
    other.load_state_dict(state)
    module.load_state_dict(state)
    torch.testing.assert_close(output(module, x), output(other, x), rtol=1e-5, atol=1e-6)


@used_or_not
def test_another_parameter(network, x, use):
    module = used(network, x) if use else compile_network(network).eval()
    component = module.components["output/affine"]
    component.linear = nn.Parameter(torch.randn_like(component.linear))
    assert is_right(module, x)


@used_or_not
def test_another_buffer_in_test_mode(network, x, use):
    options = {"test_mode": True}
    module = used(network, x, **options) if use else compile_network(network, **options)
    for component in module.components.values():
        for name, buffer in list(component.named_buffers(recurse=False)):
            setattr(component, name, 0.5 * buffer)
    other = compile_network(network, **options)
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(output(module, x), output(other, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", ["in place", "data in place", "data"])
def test_changed_parameters(network, x, way):
    module = used(network, x)
    with torch.no_grad():
        for parameter in module.parameters():
            if way == "in place":
                parameter.mul_(2)
            elif way == "data in place":
                parameter.data.mul_(2)
            else:
                parameter.data = parameter.data * 2
    assert is_right(module, x)


@used_or_not
def test_a_parametrization(network, x, use):
    class Twice(nn.Module):
        def forward(self, weight):
            return 2 * weight

    module = used(network, x) if use else compile_network(network).eval()
    twice = copy.deepcopy(module)
    for name, component in module.components.items():
        if hasattr(component, "linear"):
            with torch.no_grad():
                twice.components[name].linear.mul_(2)
            parametrize.register_parametrization(component, "linear", Twice())
    torch.testing.assert_close(output(module, x), output(twice, x), rtol=1e-4, atol=1e-5)
    for each in (module, twice):
        each({"input": x})["output"].square().sum().backward()
    for name, component in module.components.items():
        if hasattr(component, "linear"):
            original = component.parametrizations.linear.original
            theirs = 2 * twice.components[name].linear.grad
            torch.testing.assert_close(original.grad, theirs, rtol=1e-3, atol=1e-3)
            with torch.no_grad():
                original.mul_(0.5)
                twice.components[name].linear.mul_(0.5)
    torch.testing.assert_close(output(module, x), output(twice, x), rtol=1e-4, atol=1e-5)


@used_or_not
def test_a_component_that_two_networks_share(network, x, use):
    one = used(network, x) if use else compile_network(network).eval()
    other = used(network, x) if use else compile_network(network).eval()
    change(one)
    for name in list(other.components):
        other.components[name] = one.components[name]
    torch.testing.assert_close(output(other, x), output(one, x))
    change(one)
    torch.testing.assert_close(output(other, x), output(one, x))
    assert is_right(one, x)


@pytest.mark.parametrize("style", ["no_grad", "data"])
def test_training_with_updates_of_ones_own(x, style):
    import nnet

    def train(how):
        torch.manual_seed(0)
        module = nnet.compile(nnet.build(LAYERS["lstm"]))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.normal_(0, 0.2)
        targets = torch.randint(0, 6, (BATCH, FRAMES))
        for _ in range(5):
            result = module({"input": x})["output"].transpose(1, 2)
            loss = torch.nn.functional.nll_loss(result, targets)
            gradients = torch.autograd.grad(loss, list(module.parameters()))
            for parameter, gradient in zip(module.parameters(), gradients, strict=True):
                if how == "data":
                    parameter.data.add_(gradient, alpha=-0.5)
                else:
                    with torch.no_grad():
                        parameter.add_(gradient, alpha=-0.5)
        return loss.item()

    assert train(style) == train("no_grad")
