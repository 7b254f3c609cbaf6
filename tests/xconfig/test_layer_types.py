"""What each layer type expands to."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnet.text.parse import descriptor_of, parse_config, parse_xconfig
from nnet.text.write import write_file
from nnet.xconfig import Expansion, expand
from nnet.xconfig.fixed import idct

INPUT = "input name=input dim=12\n"
OUTPUT = "\noutput name=output input=x"


def expanded(layers: str) -> Expansion:
    return expand(parse_xconfig(INPUT + layers))


def final(layer: str, output: str = OUTPUT) -> list[str]:
    """The lines of final.config that belong to `layer`, which is called x."""
    lines = write_file(expanded(layer + output).final).splitlines()
    return lines[1:-1] if output else lines[1:]


def components(layer: str, output: str = OUTPUT) -> list[str]:
    """The components of a layer, without the word `component`."""
    lines = final(layer, output)
    return [line.removeprefix("component ") for line in lines if line.startswith("component ")]


@pytest.mark.parametrize(
    ("layer_type", "parts", "component_types"),
    [
        ("relu-layer", ["relu"], ["RectifiedLinear"]),
        ("sigmoid-layer", ["sigmoid"], ["Sigmoid"]),
        ("tanh-layer", ["tanh"], ["Tanh"]),
        ("batchnorm-layer", ["batchnorm"], ["BatchNorm"]),
        ("relu-renorm-layer", ["relu", "renorm"], ["RectifiedLinear", "Normalize"]),
        ("relu-batchnorm-layer", ["relu", "batchnorm"], ["RectifiedLinear", "BatchNorm"]),
        ("relu-dropout-layer", ["relu", "dropout"], ["RectifiedLinear", "Dropout"]),
        (
            "relu-batchnorm-so-layer",
            ["relu", "batchnorm", "so"],
            ["RectifiedLinear", "BatchNorm", "ScaleAndOffset"],
        ),
        (
            "batchnorm-so-relu-layer",
            ["batchnorm", "so", "relu"],
            ["BatchNorm", "ScaleAndOffset", "RectifiedLinear"],
        ),
        (
            "relu-batchnorm-dropout-layer",
            ["relu", "batchnorm", "dropout"],
            ["RectifiedLinear", "BatchNorm", "Dropout"],
        ),
    ],
)
def test_the_relu_family(layer_type: str, parts: list[str], component_types: list[str]) -> None:
    lines = components(f"{layer_type} name=x dim=8")
    assert lines[0].startswith("name=x.affine type=NaturalGradientAffineComponent input-dim=12")
    found = [tuple(line.split()[:2]) for line in lines[1:]]
    assert found == [
        (f"name=x.{part}", f"type={component_type}Component")
        for part, component_type in zip(parts, component_types, strict=True)
    ]
    assert final(f"{layer_type} name=x dim=8")[-1].startswith(
        f"component-node name=x.{parts[-1]} component=x.{parts[-1]}"
    )


def test_an_affine_transform_in_two_factors() -> None:
    first, second, *_ = components("relu-layer name=x dim=8 bottleneck-dim=3 input=Append(-1,1)")
    assert first == (
        "name=x.linear type=LinearComponent input-dim=24 orthonormal-constraint=1.0 output-dim=3 "
        "max-change=0.75"
    )
    assert second.startswith("name=x.affine type=NaturalGradientAffineComponent input-dim=3")


def test_a_learning_rate_factor_on_the_relu_family() -> None:
    affine = components("relu-layer name=x dim=8 learning-rate-factor=0.50")[0]
    assert affine.endswith("max-change=0.75 learning-rate-factor=0.50")


def test_the_log_stddev_column_counts_in_dim() -> None:
    lines = components("relu-renorm-layer name=x dim=8 add-log-stddev=true")
    assert "output-dim=7" in lines[0]
    assert lines[-1].endswith("dim=7 target-rms=1.0 add-log-stddev=true")
    assert expanded("relu-renorm-layer name=x dim=8 add-log-stddev=true" + OUTPUT).layers[-1]


@pytest.mark.parametrize(
    ("options", "dropout"),
    [
        ("", "type=DropoutComponent dim=8 dropout-proportion=0.5"),
        (
            "dropout-proportion=0 dropout-per-dim=true",
            "type=GeneralDropoutComponent dim=8 dropout-proportion=0.0",
        ),
        (
            "dropout-per-dim-continuous=true",
            "type=GeneralDropoutComponent dim=8 dropout-proportion=0.5 continuous=true",
        ),
    ],
)
def test_kinds_of_dropout(options: str, dropout: str) -> None:
    line = components(f"relu-dropout-layer name=x dim=8 {options}")[-1]
    assert line == f"name=x.dropout {dropout}"


def test_the_default_dim_is_that_of_the_input() -> None:
    for layer_type in ("relu-layer", "affine-layer", "affine-component", "linear-component"):
        assert (
            "input-dim=24 output-dim=24" in components(f"{layer_type} name=x input=Append(-1,1)")[0]
        )


def test_extra_settings_come_before_the_layers_own_and_so_win() -> None:
    affine = components('relu-layer name=x dim=8 ng-affine-options="max-change=2 alpha=4.0"')[0]
    assert affine.endswith("output-dim=8 max-change=2 alpha=4.0 max-change=0.75")
    (line,) = parse_config("component " + affine).lines
    first = line.get("max-change")
    assert first is not None
    assert first.value == "2"


def test_output_layer_in_two_factors() -> None:
    linear, affine, softmax = components(
        "output-layer name=x dim=9 bottleneck-dim=4 ng-linear-options='rank-in=5' "
        "l2-regularize=0.01",
        output="",
    )
    assert linear == (
        "name=x.linear type=LinearComponent orthonormal-constraint=1.0 "
        f"param-stddev={1 / math.sqrt(12)} input-dim=12 output-dim=4 max-change=0.75 rank-in=5 "
        "l2-regularize=0.01 max-change=1.5"
    )
    assert affine.startswith("name=x.affine type=NaturalGradientAffineComponent input-dim=4")
    assert softmax == "name=x.log-softmax type=LogSoftmaxComponent dim=9"


def test_the_delay_and_objective_of_outputs() -> None:
    line = final("output-layer name=x dim=9 output-delay=3", output="")[-1]
    assert line == "output-node name=x input=Offset(x.log-softmax, 3) objective=linear"
    line = final("output name=x input=Sum(input, -1) output-delay=-2", output="")[-1]
    assert line == (
        "output-node name=x input=Offset(Sum(input, Offset(input, -1)), -2) objective=linear"
    )


def test_parts_of_an_output_layer_can_be_read() -> None:
    text = (
        "output-layer name=o dim=9\nrelu-layer name=x dim=4 input=Append(o.affine, o.log-softmax)"
    )
    lines = write_file(expanded(text).final)
    assert "input-dim=18 output-dim=4" in lines
    assert "component-node name=x.affine component=x.affine input=Append(o.affine, o.log-s" in lines


@pytest.mark.parametrize(
    ("options", "linear", "affine"),
    [
        ("", "-1,0", "0,1"),
        ("time-stride=3", "-3,0", "0,3"),
        ("time-stride=-3", "3,0", "0,-3"),
        ("time-stride=0", "0", "0"),
        ("time-stride=2 context=shift-left", "-2,0", "-2,0"),
        ("time-stride=2 context=left-only", "-2,0", "0"),
        ("time-stride=2 context=none", "0", "0"),
    ],
)
def test_time_offsets_of_tdnnf_layers(options: str, linear: str, affine: str) -> None:
    lines = components(f"tdnnf-layer name=x dim=12 bottleneck-dim=4 {options}")
    assert f" time-offsets={linear} " in lines[0]
    assert lines[1].endswith(f"time-offsets={affine}")


@pytest.mark.parametrize(
    ("options", "last"),
    [
        ("", "noop"),
        ("bypass-scale=0", "batchnorm"),
        ("bypass-scale=0 dropout-proportion=0", "dropout"),
        ("dropout-proportion=0.1", "noop"),
    ],
)
def test_what_ends_a_tdnnf_layer(options: str, last: str) -> None:
    lines = final(f"tdnnf-layer name=x dim=12 bottleneck-dim=4 {options}")
    assert lines[-1].startswith(f"component-node name=x.{last} ")


def test_the_bypass_reads_the_whole_input() -> None:
    layer = "tdnnf-layer name=x dim=12 bottleneck-dim=4 bypass-scale=0.75 input=Sum(-1,1)"
    assert final(layer)[-1].endswith(
        "input=Sum(Scale(0.75, Sum(Offset(input, -1), Offset(input, 1))), x.batchnorm)"
    )


def test_spec_augment() -> None:
    layer = "spec-augment-layer name=x freq-max-proportion=0.3 time-mask-max-frames=10"
    assert final(layer) == [
        "component name=x.freq-mask type=GeneralDropoutComponent dim=12 "
        "specaugment-max-proportion=0.3",
        "component-node name=x.freq-mask component=x.freq-mask input=input",
        "component name=x.time-mask type=SpecAugmentTimeMaskComponent dim=12 "
        "zeroed-proportion=0.2 time-mask-max-frames=10",
        "component-node name=x.time-mask component=x.time-mask input=x.freq-mask",
    ]


def test_affine_layer_passes_on_what_it_is_given() -> None:
    layer = 'affine-layer name=x dim=3 learning-rate-factor=0.5 ng-affine-options="alpha=2"'
    assert components(layer)[0] == (
        "name=x type=NaturalGradientAffineComponent input-dim=12 output-dim=3 "
        f"param-stddev={1 / math.sqrt(12)} bias-stddev=1.0 bias-mean=0.0 max-change=0.75 "
        "l2-regularize=0.0 learning-rate-factor=0.5 alpha=2"
    )


def test_a_transform_with_delay() -> None:
    layer = "fixed-affine-layer name=x affine-transform-file=lda.mat delay=5"
    init = expanded(layer + OUTPUT).init
    assert init is not None
    assert write_file(init).splitlines()[1:] == [
        "component name=x.delayed type=NoOpComponent dim=12",
        "component-node name=x.delayed component=x.delayed input=input",
        "output-node name=output input=Offset(x.delayed, 5)",
    ]


def test_layers_in_front_of_a_transform() -> None:
    text = (
        "idct-layer name=i affine-transform-file=idct.mat include-in-init=true\n"
        "batchnorm-component name=b include-in-init=true\n"
        "spec-augment-layer name=s include-in-init=true\n"
        "fixed-affine-layer name=x affine-transform-file=lda.mat input=Append(-1,0,1)"
    )
    init = expanded(text + OUTPUT).init
    assert init is not None
    names = [s.value for line in init.lines if (s := line.get("name")) is not None]
    assert names == [
        *("input", "i", "i", "b", "b"),
        *("s.freq-mask", "s.freq-mask", "s.time-mask", "s.time-mask", "output"),
    ]


def test_a_transform_need_not_have_an_init_config() -> None:
    layer = "fixed-affine-layer name=x affine-transform-file=lda.mat write-init-config=false"
    assert expanded(layer + OUTPUT).init is None


def test_a_config_of_outputs_only_in_init_is_not_written() -> None:
    assert expanded("batchnorm-component name=x include-in-init=true" + OUTPUT).init is None


def test_the_inverse_cosine_transform_undoes_the_transform() -> None:
    dim, lifter = 13, 22.0
    k, n = np.mgrid[:dim, :dim]
    dct = np.sqrt(2 / dim) * np.cos(np.pi / dim * (n + 0.5) * k)
    dct[0] = np.sqrt(1 / dim)
    scale = 1 + 0.5 * lifter * np.sin(np.pi * np.arange(dim) / lifter)
    inverse = np.array(idct(dim, dim, lifter))
    np.testing.assert_allclose(inverse @ (scale[:, None] * dct), np.eye(dim), atol=1e-12)
    np.testing.assert_allclose(np.array(idct(dim, dim, 0)) @ dct, np.eye(dim), atol=1e-12)


def test_errors_in_the_expanded_network_point_into_the_xconfig() -> None:
    line = expanded("relu-layer name=x dim=4 input=Append(-1, 0)" + OUTPUT).final.lines[2]
    setting = line.get("input")
    assert line.span is not None
    assert line.span.line == 2
    assert setting is not None
    descriptor = descriptor_of(setting)
    assert descriptor.span is not None
    assert descriptor.span.text == "Append(-1, 0)"
