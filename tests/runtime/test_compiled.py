"""The compiled module: shapes, tiles, modes, statistics, and what it says to wrong input."""

import numpy as np
import pytest
import torch

import nnet
from nnet.errors import NnetError
from nnet.plan.request import Request, TimeRange
from nnet.runtime import tiles
from nnet.runtime.compiled import compile_network
from tests.support import GOLDEN, golden_network, network_from


@pytest.fixture
def tdnnf():
    return compile_network(golden_network("nets/tdnnf"), test_mode=True, outputs=("output",))


def some_inputs(frames, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "input": torch.randn(batch, frames, 20, generator=generator),
        "ivector": torch.randn(batch, 1, 10, generator=generator),
    }


def test_a_whole_utterance_gives_one_row_a_frame(tdnnf):
    result = tdnnf(some_inputs(31))
    assert set(result) == {"output"}
    assert result["output"].shape == (2, 31, 18)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("subsampling", [1, 3])
def test_plain_torch_gives_the_same_results(tdnnf, batch, subsampling):
    request = tdnnf.chunk_request(30, subsampling=subsampling)
    inputs = some_inputs(dict(request.inputs)["input"].count, batch)
    options = {"test_mode": True, "outputs": ("output",), "kernels": "reference"}
    plain = compile_network(golden_network("nets/tdnnf"), **options)
    with torch.no_grad():
        ours, theirs = (module(inputs, request)["output"] for module in (tdnnf, plain))
    assert torch.dist(ours, theirs) < 1e-5 * torch.linalg.vector_norm(theirs)


def test_weights_that_are_loaded_later_are_used(tdnnf):
    inputs = some_inputs(9)
    with torch.no_grad():
        before = tdnnf(inputs)["output"]
        state = tdnnf.state_dict()
        tdnnf.load_state_dict({name: 2 * tensor for name, tensor in state.items()})
        doubled = tdnnf(inputs)["output"]
        tdnnf.load_state_dict({name: tensor / 2 for name, tensor in tdnnf.state_dict().items()})
        again = tdnnf(inputs)["output"]
    assert not torch.allclose(doubled, before)
    assert torch.equal(again, before)


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("subsampling", [1, 3])
def test_tiles_change_nothing(tdnnf, batch, subsampling, monkeypatch):
    tdnnf.double()
    request = tdnnf.chunk_request(400, subsampling=subsampling)
    inputs = some_inputs(dict(request.inputs)["input"].count, batch)
    inputs = {name: tensor.double() for name, tensor in inputs.items()}
    whole = tdnnf(inputs, request)["output"]
    monkeypatch.setattr(tiles, "TILE_BYTES", 4 * 32 * 37)
    with torch.no_grad():
        tiled = tdnnf(inputs, request)["output"]
    assert len(list(tdnnf._tiled.tiling.tiles(request, batch))) > 3
    torch.testing.assert_close(tiled, whole, rtol=1e-9, atol=1e-9)


def test_a_network_that_depends_on_the_time_itself_is_not_cut(monkeypatch):
    text = "input-node name=input dim=2\noutput-node name=output input=Round(input, 3)"
    module = compile_network(network_from(text), test_mode=True)
    monkeypatch.setattr(tiles, "TILE_BYTES", 4)
    request = Request.of({"input": TimeRange(0, 90)}, {"output": TimeRange(0, 90)})
    x = torch.arange(180.0).view(1, 90, 2)
    with torch.no_grad():
        result = module({"input": x}, request)["output"]
    assert torch.equal(result, x[:, ::3].repeat_interleave(3, dim=1))


def test_parameters_are_named_by_component():
    module = compile_network(golden_network("nets/tdnn_batchnorm"))
    names = dict(module.named_parameters())
    assert "components.tdnn1/affine.linear" in names
    assert all(isinstance(p, torch.nn.Parameter) for p in names.values())


def test_test_mode_has_nothing_to_train(tdnnf):
    assert list(tdnnf.parameters()) == []


def test_parameters_go_back_into_the_network_bit_for_bit():
    network = golden_network("nets/tdnnf")
    back = compile_network(network).to_network()
    for name, spec in network.components.items():
        for key, array in spec.parameters().items():
            np.testing.assert_array_equal(back.components[name].parameters()[key], array)
        if spec.type_name == "BatchNormComponent":
            np.testing.assert_array_equal(back.components[name].stats_mean, spec.stats_mean)


BATCHNORM = """
input-node name=input dim=6
component name=bn type=BatchNormComponent dim=6 block-dim=3 target-rms=0.5 epsilon=0.01
component-node name=bn component=bn input=input
output-node name=output input=bn
"""


def test_batchnorm_in_training_uses_and_stores_minibatch_statistics():
    module = compile_network(network_from(BATCHNORM))
    request = module.chunk_request(11)
    batches = [torch.randn(4, 11, 6, generator=torch.Generator().manual_seed(i)) for i in (1, 2)]
    for x in batches:
        rows = x.reshape(-1, 3).double()
        scale = 0.5 / (rows.var(dim=0, correction=0) + 0.01).sqrt()
        expected = ((rows - rows.mean(dim=0)) * scale).view(4, 11, 6)
        result = module({"input": x}, request)["output"].double()
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    spec = module.to_network().components["bn"]
    rows = torch.cat(batches).reshape(-1, 3)
    assert spec.count == 4 * 11 * 2 * 2
    np.testing.assert_allclose(spec.stats_mean, rows.mean(dim=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(spec.stats_var, rows.var(dim=0, correction=0), rtol=1e-4)
    module.zero_stats()
    assert module.to_network().components["bn"].count == 0


def test_batchnorm_without_statistics_is_refused_in_test_mode():
    network = network_from(BATCHNORM)
    with pytest.raises(NnetError, match="'bn' has no statistics"):
        compile_network(network, test_mode=True)
    module = compile_network(network).eval()
    with pytest.raises(NnetError, match="no statistics"):
        module({"input": torch.zeros(1, 4, 6)})


def test_wrong_inputs_are_named(tdnnf):
    request = tdnnf.chunk_request(9)
    with pytest.raises(NnetError, match=r"input 'input' has shape \(2, 9, 20\), expected"):
        tdnnf(some_inputs(9), request)
    with pytest.raises(NnetError, match=r"input 'ivector' \(dim 10\) is not given"):
        tdnnf({"input": torch.zeros(1, 29, 20)}, request)
    with pytest.raises(NnetError, match="no input 'features'; its inputs are"):
        tdnnf({"features": torch.zeros(1, 29, 20)})


def test_the_public_names_do_the_same():
    model = nnet.load(GOLDEN / "nets" / "tdnnf" / "trained.raw")
    module = nnet.compile(model, test_mode=True, outputs=("output",))
    assert module(some_inputs(12))["output"].shape == (2, 12, 18)


def test_without_passes_only_the_components_that_are_applied_become_modules():
    network = network_from(
        "input-node name=input dim=4\n"
        "component name=parts type=DistributeComponent input-dim=4 output-dim=2\n"
        "component-node name=parts component=parts input=input\n"
        "component name=unused type=AffineComponent input-dim=4 output-dim=4\n"
        "output-node name=output input=ReplaceIndex(parts, x, 1)"
    )
    module = compile_network(network, passes=())
    assert not list(module.parameters())
    x = torch.arange(12.0).reshape(1, 3, 4)
    torch.testing.assert_close(module({"input": x})["output"], x[..., 2:])
