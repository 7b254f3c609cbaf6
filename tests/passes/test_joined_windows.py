"""What follows convolutions, and the two steps of statistics pooling, become one operation."""

import numpy as np
import pytest
import torch

import nnet
from nnet.plan import ir

CONVOLUTION = """
input name=input dim=24
conv-relu-batchnorm-layer name=cnn1 height-in=12 height-out=12 num-filters-out=5 \
height-offsets=-1,0,1 time-offsets=-1,0,1
conv-relu-batchnorm-layer name=cnn2 height-in=12 height-out=6 height-subsample-out=2 \
num-filters-out=4 height-offsets=-1,0,1 time-offsets=-2,0,2
relu-renorm-layer name=last dim=7
output name=output input=last
"""

POOLING = """
input name=input dim=6
relu-batchnorm-layer name=first dim=8
stats-layer name=pooled config=mean{stddev}+count({window})
affine-layer name=last dim=7 input=Append(first, pooled)
output name=output input=last
"""


def trained(text):
    """A random network with batch-norm statistics."""
    network = nnet.build(text, rng=np.random.default_rng(0))
    module = nnet.compile(network).train()
    dim = network.nodes["input"].dim
    module({"input": torch.randn(4, 30, dim, generator=torch.Generator().manual_seed(0))})
    return module.to_network()


def compared(network, frames, subsampling=1, batch=3):
    """The component types of the plan at test time, whose result is the network's."""
    plain = nnet.compile(network).eval().double()
    joined = nnet.compile(network, test_mode=True).double()
    request = plain.chunk_request(frames, subsampling=subsampling)
    count, dim = dict(request.inputs)["input"].count, network.nodes["input"].dim
    inputs = {"input": torch.randn(batch, count, dim, dtype=torch.float64)}
    expected = plain(inputs, request)["output"]
    with torch.no_grad():
        torch.testing.assert_close(
            joined(inputs, request)["output"], expected, rtol=1e-5, atol=1e-5
        )
    torch.testing.assert_close(joined(inputs, request)["output"], expected, rtol=1e-5, atol=1e-5)
    return [
        joined.plan.components[operation.component].type_name
        for operation in joined.plan.operations
        if isinstance(operation, ir.Apply | ir.ApplyWindow)
    ]


@pytest.mark.parametrize(("frames", "subsampling"), [(9, 1), (12, 3)])
def test_convolutions_take_in_what_follows_them(frames, subsampling):
    types = compared(trained(CONVOLUTION), frames, subsampling)
    assert types == ["FinishedConvolution", "FinishedConvolution", "NormalizeComponent"]


def test_scales_that_differ_by_height_stay_outside():
    text = CONVOLUTION.replace(
        "relu-renorm-layer",
        "batchnorm-component name=columns input=cnn2\nrelu-renorm-layer input=columns",
    )
    assert "FinishedConvolution" in compared(trained(text), 9)


@pytest.mark.parametrize("window", ["-8:1:1:8", "-9:1:3:9", "-6:3:3:12", "0:1:1:10000"])
@pytest.mark.parametrize("stddev", ["", "+stddev"])
def test_statistics_are_pooled_from_the_frames(window, stddev):
    types = compared(trained(POOLING.format(window=window, stddev=stddev)), 12)
    assert types == ["ScaleOffset", "PooledStatistics"]


def test_statistics_that_something_else_reads_are_extracted():
    network = trained(POOLING.format(window="-9:1:3:9", stddev="+stddev"))
    extraction = next(n for n in network.nodes if "extraction" in n)
    dim = network.components[extraction].output_dim
    text = f"output-node name=sums input={extraction} objective=linear"
    added = nnet.build(text, base=network)
    types = [
        added.components[o.component].type_name
        for o in nnet.compile(added, test_mode=True).plan.operations
        if isinstance(o, ir.ApplyWindow)
    ]
    assert dim == 17
    assert sorted(types) == ["StatisticsExtractionComponent", "StatisticsPoolingComponent"]
