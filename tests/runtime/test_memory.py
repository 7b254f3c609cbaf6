"""What the derivative needs, kept in 16 bits: outputs are the same, gradients nearly."""

import pytest
import torch

import nnet
from nnet.errors import NnetError
from nnet.runtime.memory import HalvedMemory

XCONFIG = """
input dim=40 name=input
relu-batchnorm-dropout-layer name=tdnn1 dim=128 dropout-per-dim=true dropout-proportion=0.2
tdnnf-layer name=tdnnf2 dim=128 bottleneck-dim=32 time-stride=1
sigmoid-layer name=s3 dim=128
output-layer name=output dim=50
"""


def outputs_and_gradients(level):
    module = nnet.compile(nnet.build(XCONFIG), memory_compression_level=level).train()
    request = module.chunk_request(20)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(
        16, dict(request.inputs)["input"].count, 40, generator=generator, requires_grad=True
    )
    torch.manual_seed(1)
    output = module({"input": features}, request)["output"]
    output.square().sum().backward()
    return output.detach(), [features.grad, *(p.grad for p in module.parameters())]


def test_sixteen_bits_change_gradients_by_rounding_alone():
    expected, expected_gradients = outputs_and_gradients(1)
    found, gradients = outputs_and_gradients(2)
    assert torch.equal(found, expected)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        assert (ours - theirs).norm() <= 2e-3 * theirs.norm() + 1e-3
    assert any(not torch.equal(a, b) for a, b in zip(gradients, expected_gradients, strict=True))


def kept_bytes(run, permanent=()):
    """Bytes that are kept in the graph, each piece of memory once."""
    kept = {}

    class Counted(HalvedMemory):
        def _pack(self, tensor):
            packed = super()._pack(tensor)
            piece = packed if isinstance(packed, torch.Tensor) else packed.halved.elements
            kept[piece.data_ptr()] = piece.untyped_storage().nbytes()
            return packed

    with Counted(permanent):
        result = run()
    return sum(kept.values()), result


def test_a_tensor_that_several_derivatives_need_is_kept_once():
    x = torch.randn(200, 200, requires_grad=True) * 1.0
    size, result = kept_bytes(lambda: x.sigmoid().square() + x.square())
    assert size == 2 * (2 * 200 * 200)  # of x, and of its sigmoid
    result.sum().backward()


def test_small_tensors_parameters_and_integers_stay_as_they_are():
    weight = torch.randn(200, 200, requires_grad=True)
    small = torch.randn(4, 200)
    exact = (small @ weight).square().sum()
    (expected,) = torch.autograd.grad(exact, weight)
    with HalvedMemory([weight]):
        result = (small @ weight).square().sum()
    (found,) = torch.autograd.grad(result, weight)
    assert torch.equal(found, expected)


def test_values_beyond_the_range_are_kept_as_the_largest():
    x = torch.full((200, 200), 1e6, requires_grad=True)
    with HalvedMemory(()):
        result = x.square()
    result.sum().backward()
    assert x.grad.isfinite().all()


def test_an_unknown_level_is_an_error():
    with pytest.raises(NnetError, match="memory-compression-level is 3, expected 0 or 1"):
        nnet.compile(nnet.build(XCONFIG), memory_compression_level=3)
