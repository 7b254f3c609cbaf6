"""Which modules have kernels, and that what is chosen is what runs."""

import inspect

import numpy as np
import pytest
import torch

import nnet
from nnet.components.registry import component_types
from nnet.errors import NnetError
from nnet.kernels.affine.packed import has_bf16_units
from nnet.modules.base import ComponentModule
from nnet.modules.registry import _module_classes
from nnet.plan.derived import AFFINE
from nnet.plan.implementations import TABLE
from nnet.runtime import compiled, device
from nnet.runtime.cuda_graph import CapturedGraphs

TEXT = """
input name=input dim=12
relu-renorm-layer name=first dim=16 input=Append(-1,0,1)
relu-renorm-layer name=second dim=16 input=Append(-3,0)
affine-layer name=last dim=8
output name=output input=last
"""


def network():
    return nnet.build(TEXT, rng=np.random.default_rng(0))


def hands_on_its_implementation(cls: type[ComponentModule]) -> bool:
    return "self.implementation" in inspect.getsource(cls)


def test_the_table_knows_which_components_have_implementations():
    found = {name for name, cls in _module_classes().items() if hands_on_its_implementation(cls)}
    known = {name for name in TABLE if name in component_types() or name in _module_classes()}
    loops = {name for name in known if "Lstm" in name or "Gru" in name}  # of whole layers
    objective = {"LogSoftmaxComponent"}  # in the kernel of the line "Logits"
    assert (found - AFFINE - objective) | loops == known


def implementations(module, frames):
    """What runs for a whole utterance: by the modules that steps were handed."""
    x = {"input": torch.zeros(2, frames + module.left_context + module.right_context, 12)}
    executor, _ = module._executor(module.chunk_request(frames), x)
    return set(executor.bound.implementations.values())


@pytest.mark.parametrize("test_mode", [False, True])
def test_kernels_compute_the_same_as_plain_torch(test_mode):
    x = {"input": torch.randn(2, 9, 12)}
    plain = nnet.compile(network(), kernels="reference", test_mode=test_mode)
    kernels = nnet.compile(network(), kernels="triton", test_mode=test_mode)
    with torch.no_grad():
        expected, result = plain(x)["output"], kernels(x)["output"]
        assert implementations(plain, 9) == {"reference"}
        assert "triton" in implementations(kernels, 9)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


def test_native_code_is_chosen_on_a_cpu():
    module = nnet.compile(network(), test_mode=True)
    with torch.no_grad():
        module({"input": torch.randn(1, 5, 12)})
        assert implementations(module, 5) == {"native", "reference"}


def test_no_module_is_changed_by_what_is_chosen():
    module = nnet.compile(network(), test_mode=True)
    with torch.no_grad():
        module({"input": torch.randn(1, 5, 12)})
    parts = [part for part in module.modules() if isinstance(part, ComponentModule)]
    assert {part.implementation for part in parts} == {"reference"}
    view = parts[0].bound("native")
    assert view.implementation == "native"
    assert view.bound("reference").implementation == "reference"
    assert type(view.bound("reference")) is type(parts[0])
    parts[0].observer = None
    assert view.__dict__ is parts[0].__dict__


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kernels": "cuda"},
            "kernels are 'cuda', expected one of auto, reference, native, triton",
        ),
        (
            {"cuda_graph": True, "test_mode": True},
            "a CUDA graph needs a CUDA device, and torch sees none here; leave out --cuda-graph",
        ),
    ],
)
def test_what_cannot_be(options, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NnetError) as error:
        nnet.compile(network(), **options)
    assert str(error.value) == message


def test_a_cuda_graph_is_for_test_mode(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(NnetError, match="so it is for test mode alone"):
        nnet.compile(network(), cuda_graph=True, kernels="reference")


def test_bf16_comes_close():
    x = {"input": torch.randn(2, 9, 12)}
    exact = nnet.compile(network(), test_mode=True)
    rounded = nnet.compile(network(), test_mode=True)
    rounded.bf16 = True  # on any processor: without units for it, it is float32
    with torch.no_grad():
        expected, result = exact(x)["output"], rounded(x)["output"]
    assert result.dtype == torch.float32
    assert torch.equal(result, expected) != has_bf16_units()
    torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-3)


def test_bf16_needs_hardware(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "_cpu_flags", lambda: {"avx2"})
    with pytest.raises(NnetError, match=r"bf16 needs a CPU with units for bfloat16 .*; leave out"):
        nnet.compile(network(), test_mode=True, bf16=True)


def test_bf16_in_test_mode_needs_matrix_units(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "_cpu_flags", lambda: {"avx512_bf16"})
    monkeypatch.setattr(compiled, "has_bf16_units", lambda: False)
    with pytest.raises(
        NnetError, match=r"needs a CPU with matrix units .* \(AMX\) and a C\+\+ com"
    ):
        nnet.compile(network(), test_mode=True, bf16=True)


def test_a_captured_network_takes_inputs_on_its_device():
    request = nnet.Request.of({"input": nnet.TimeRange(0, 1)}, {"output": nnet.TimeRange(0, 1)})
    graphs = CapturedGraphs(lambda inputs, request: {})
    with pytest.raises(NnetError, match="input 'input' is on cpu; a network with a CUDA graph"):
        graphs({"input": torch.zeros(1, 1, 1)}, request)
