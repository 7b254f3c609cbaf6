"""Convolutions, residual blocks, attention and statistics beyond the golden networks."""

from __future__ import annotations

import pytest

from tests.xconfig.expanding import components, config, expanded, nodes

CONVOLUTION = "height-in=8 height-out=8 num-filters-out=4 time-offsets=0 height-offsets=-1,0,1"


def dim(layer: str) -> int:
    return expanded(layer).layers[1].outputs()[""].dim


@pytest.mark.parametrize(
    ("layer_type", "parts"),
    [
        ("conv-layer", ["conv"]),
        ("conv-renorm-layer", ["conv", "renorm"]),
        ("relu-conv-renorm-layer", ["relu", "conv", "renorm"]),
        ("batchnorm-conv-layer", ["batchnorm", "conv"]),
        ("conv-relu-batchnorm-so-layer", ["conv", "relu", "batchnorm", "so"]),
    ],
)
def test_parts_of_a_convolution(layer_type: str, parts: list[str]) -> None:
    found = components(f"{layer_type} name=x {CONVOLUTION}")
    assert list(found) == parts
    for part in parts[parts.index("conv") + 1 :]:
        assert " dim=32" in found[part]
    for part in parts[: parts.index("conv")]:
        assert " dim=24 block-dim=3" in found[part]


def test_a_layer_without_its_convolution_keeps_the_shape() -> None:
    assert components("relu-batchnorm-noconv-layer name=x height-in=8") == {
        "relu": "type=RectifiedLinearComponent dim=24 block-dim=3 self-repair-scale=2e-05 "
        "self-repair-lower-threshold=0.05",
        "batchnorm": "type=BatchNormComponent dim=24 block-dim=3 target-rms=1.0",
    }
    assert dim("relu-noconv-layer name=x height-in=8 height-out=8 num-filters-out=3") == 24


def test_settings_of_a_convolution_are_passed_on_in_kaldis_order() -> None:
    layer = (
        f"conv-layer name=x {CONVOLUTION} required-time-offsets=0 l2-regularize=0.1 alpha-out=2 "
        "learning-rate-factor=0.5 rank-in=3 use-natural-gradient=true param-stddev=0.2"
    )
    assert components(layer)["conv"] == (
        "type=TimeHeightConvolutionComponent param-stddev=0.2 use-natural-gradient=true "
        "max-change=0.75 rank-in=3 alpha-out=2 num-filters-in=3 num-filters-out=4 height-in=8 "
        "height-out=8 height-subsample-out=1 height-offsets=-1,0,1 time-offsets=0 "
        "required-time-offsets=0 learning-rate-factor=0.5 l2-regularize=0.1"
    )


@pytest.mark.parametrize(
    ("source", "read"),
    [
        ("noop", "x.noop"),
        ("input", "Sum(x.conv2, input)"),
        ("relu", "Sum(x.conv2, x.relu1)"),
        ("batchnorm", "Sum(x.conv2, x.batchnorm1)"),
    ],
)
def test_what_the_convolutions_of_a_res_block_are_added_to(source: str, read: str) -> None:
    layer = f"res-block name=x height=8 bypass-source={source}"
    lines = config(layer, "no-op-component name=b input=Append([-1], input)")
    assert lines[-1] == f"component-node name=b component=b input=Append({read}, input)"
    assert lines[-2] == "component name=b type=NoOpComponent dim=48"
    assert ("noop" in components(layer)) == (source == "noop")


def test_a_res_block_without_filters_takes_those_of_its_input() -> None:
    assert components("res-block name=x height=8")["relu1"].startswith(
        "type=RectifiedLinearComponent dim=24 block-dim=3 "
    )


def test_a_res_block_with_a_bottleneck() -> None:
    found = components("res-block name=x height=8 num-bottleneck-filters=2 height-period=2")
    shapes = {
        name: text.partition("height-out=8 ")[2].partition(" required")[0]
        for name, text in found.items()
        if name.startswith("conv")
    }
    assert shapes == {
        "conv1": "height-offsets=0 time-offsets=0 num-filters-in=3 num-filters-out=2",
        "conv2": "height-offsets=-2,0,2 time-offsets=-1,0,1 num-filters-in=2 num-filters-out=2",
        "conv3": "height-offsets=0 time-offsets=0 num-filters-in=2 num-filters-out=3",
    }


def test_a_res_block_can_do_without_padding() -> None:
    found = components("res-block name=x height=8 allow-zero-padding=false")
    assert "required-time-offsets" not in found["conv1"]


def test_a_res2_block_without_a_change_of_shape_adds_its_input() -> None:
    layer = "res2-block name=x height=8 num-filters=3 time-period=3"
    assert nodes(layer)["relu2"] == "relu2 Sum(scaleoffset2, input)"
    assert "conv_bypass" not in components(layer)
    assert "time-offsets=-3,0,3 num-filters-in=3 num-filters-out=3" in components(layer)["conv1"]


def test_a_res2_block_that_halves_the_height() -> None:
    layer = "res2-block name=x height-in=8 height-out=4 num-filters=5 time-period=4"
    found = components(layer)
    assert "height-in=8 height-out=4 height-offsets=-1,0,1 height-subsample-out=2" in found["conv1"]
    assert "time-offsets=-2,0,2 num-filters-in=3 num-filters-out=5" in found["conv1"]
    assert "height-in=4 height-out=4 height-offsets=-1,0,1 height-subsample-out=1" in found["conv2"]
    assert "time-offsets=-4,0,4 num-filters-in=5 num-filters-out=5" in found["conv2"]
    assert "height-subsample-out=2 num-filters-in=3 num-filters-out=5" in found["conv_bypass"]
    assert nodes(layer)["relu2"] == "relu2 Sum(scaleoffset2, conv_bypass)"
    assert dim(layer) == 20


def test_three_feature_maps_are_interleaved() -> None:
    layer = (
        "combine-feature-maps-layer name=x height=4 num-filters1=3 num-filters2=2 num-filters3=1"
    )
    assert components(layer) == {
        "": "type=PermuteComponent column-map="
        "0,1,2,12,13,20,3,4,5,14,15,21,6,7,8,16,17,22,9,10,11,18,19,23"
    }


def test_the_average_over_channels() -> None:
    assert components("channel-average-layer name=x dim=6") == {
        "": "type=SumBlockComponent input-dim=24 output-dim=6 scale=0.25"
    }


def test_attention_without_its_weights() -> None:
    shape = "num-heads=2 key-dim=3 value-dim=5 num-left-inputs=2 num-right-inputs=1"
    layer = f"attention-relu-renorm-layer name=x {shape}"
    assert dim(layer) == 2 * (5 + 4)
    assert dim(f"{layer} output-context=false") == 2 * 5
    found = components(f"{layer} output-context=false learning-rate-factor=0.5")
    assert found["affine"] == (
        "type=NaturalGradientAffineComponent input-dim=24 output-dim=30 max-change=0.75 "
        "learning-rate-factor=0.5"
    )
    assert "output-context=False time-stride=1 num-heads=2" in found["attention"]


@pytest.mark.parametrize(
    ("statistics", "columns"),
    [("mean", 24), ("mean+stddev", 48), ("mean+count", 25), ("mean+stddev+count", 49)],
)
def test_columns_of_statistics(statistics: str, columns: int) -> None:
    layer = f"stats-layer name=x config={statistics}(-9:1:3:6)"
    assert dim(layer) == columns
    assert dim(f"{layer} dim={columns}") == columns
    lines = config(layer, "no-op-component name=b input=x@3")
    assert lines[-1].endswith("input=Offset(Round(x-pooling-9-6, 3), 3)")
    assert lines[-2].endswith(f"dim={columns}")
