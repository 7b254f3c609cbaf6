"""Config lines of convolution, recurrent, attention, pooling and composite components."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnet.components import registry
from nnet.components.attention import RestrictedAttention
from nnet.components.blocks import BlockAffine, NaturalGradientRepeatedAffine, RepeatedAffine
from nnet.components.composite import Composite
from nnet.components.constant import Constant, ConstantFunction
from nnet.components.convolution import Convolution
from nnet.components.field import FieldError
from nnet.components.gradient import ClipGradient
from nnet.components.gru import GruNonlinearity, OutputGruNonlinearity
from nnet.components.lstm import LstmNonlinearity
from nnet.components.pooling import StatisticsExtraction, StatisticsPooling
from nnet.components.reshape import Distribute
from nnet.components.time_height import TimeHeightConvolution
from tests.components.test_component_config import make, mistake

SQUARE = "type=TimeHeightConvolutionComponent num-filters-in=3 num-filters-out=3 height-in=6"
GRID = "time-offsets=-1,0,1 height-offsets=-1,0,1"


def test_the_registry_lists_the_types_of_nnet3() -> None:
    items = (registry.__doc__ or "").split("\n- ")[1:]
    names = [name.strip(" .\n") for item in items for name in item.split(":")[1].split(",")]
    assert len(set(names)) == len(names) == 46
    assert {f"{name}Component" for name in names} <= set(registry.component_types())


def test_filters_of_all_time_and_height_offsets() -> None:
    conv = make(f"{SQUARE} height-out=6 {GRID}")
    assert isinstance(conv, TimeHeightConvolution)
    assert conv.offsets[:4] == ((-1, -1), (-1, 0), (-1, 1), (0, -1))
    assert conv.linear.shape == (3, 27)
    assert (conv.rank_in, conv.rank_out) == (14, 2)
    assert (conv.window.offsets, conv.window.required) == ((-1, 0, 1), (-1, 0, 1))
    assert not conv.bias.any()


def test_filters_have_nnet3_distribution() -> None:
    text = f"{SQUARE.replace('filters-out=3', 'filters-out=900')} height-out=6 {GRID}"
    conv = make(text)
    assert isinstance(conv, TimeHeightConvolution)
    assert conv.linear.std() == pytest.approx(1 / math.sqrt(27), rel=0.03)


def test_unit_filters_pass_the_input_on() -> None:
    conv = make(f"{SQUARE} height-out=6 offsets=0,0;-1,0 init-unit=true required-time-offsets=0")
    assert isinstance(conv, TimeHeightConvolution)
    np.testing.assert_array_equal(conv.linear, np.hstack((np.zeros((3, 3)), np.eye(3))))
    assert conv.window.required == (0,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("height-out=6", "'offsets' (or both 'time-offsets' and 'height-offsets') is missing"),
        ("height-out=6 time-offsets=0,1", "'offsets' (or both"),
        (f"height-out=6 {GRID} offsets=0,0", "'time-offsets' has no effect together"),
        ("height-out=6 offsets=0,0;0", "wrong value '0,0;0' for 'offsets'"),
        ("height-out=6 offsets=0,0;0,0", "offsets (=((0, 0), (0, 0))) must be different pairs"),
        (f"height-out=9 {GRID}", "height-out (=9) is too large: at output height 7"),
        ("height-out=6 offsets=0,0;0,9", "the (time, height) offset (0,9) reads no input at all"),
        (f"height-out=6 {GRID} required-time-offsets=2", "must be among the time offsets (-1,0,1)"),
        ("height-out=6 time-offsets=1,0 height-offsets=0", "different integers in increasing"),
        ("height-out=6 offsets=1,0 init-unit=true", "needs the (time, height) offset (0,0)"),
    ],
)
def test_mistakes_in_time_height_convolution(settings: str, message: str) -> None:
    assert message in str(mistake(f"{SQUARE} {settings}"))


IMAGE = (
    "type=ConvolutionComponent input-x-dim=6 input-y-dim=4 input-z-dim=2 filt-x-dim=2 "
    "filt-y-dim=3 filt-x-step=2 filt-y-step=1"
)


def test_a_convolution_within_rows() -> None:
    conv = make(f"{IMAGE} num-filters=5")
    assert isinstance(conv, Convolution)
    assert (conv.input_dim, conv.patches, conv.output_dim) == (48, (3, 2), 30)
    assert conv.is_zyx
    other = make(f"{IMAGE} num-filters=5 input-vectorization-order=yzx")
    assert isinstance(other, Convolution)
    assert not other.is_zyx


def test_filters_from_a_file() -> None:
    matrix = np.arange(26, dtype=np.float32).reshape(2, 13)
    conv = make(f"{IMAGE} matrix=m", m=matrix)
    assert isinstance(conv, Convolution)
    np.testing.assert_array_equal(conv.bias, [12, 25])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{IMAGE} num-filters=5 input-vectorization-order=xyz", "must be zyx or yzx"),
        (IMAGE, "needs 'num-filters' (or 'matrix')"),
        (
            IMAGE.replace("filt-x-step=2", "filt-x-step=3") + " num-filters=1",
            "input-x-dim - filt-x-dim (=4) must be a multiple of filt-x-step (=3)",
        ),
        (
            IMAGE.replace("filt-y-dim=3", "filt-y-dim=5") + " num-filters=1",
            "filt-y-dim (=5) is above input-y-dim (=4)",
        ),
        (
            "type=MaxpoolingComponent input-x-dim=4 input-y-dim=4 input-z-dim=4 pool-x-size=2 "
            "pool-y-size=2 pool-z-size=1 pool-x-step=2 pool-y-step=2 pool-z-step=3",
            "pool-z-step (=3) is above pool-z-size (=1)",
        ),
    ],
)
def test_mistakes_in_images(text: str, message: str) -> None:
    assert message in str(mistake(text))


def test_lstm_defaults() -> None:
    lstm = make("type=LstmNonlinearityComponent cell-dim=400")
    assert isinstance(lstm, LstmNonlinearity)
    assert (lstm.input_dim, lstm.output_dim) == (2000, 800)
    assert lstm.weights.std() == pytest.approx(1.0, rel=0.1)
    expected = [0.05, 0.05, 0.2, 0.05, 0.2] + [1e-5] * 5
    np.testing.assert_allclose(lstm.self_repair_config, expected, rtol=1e-6)
    dropout = make("type=LstmNonlinearityComponent cell-dim=4 use-dropout=true")
    assert dropout.input_dim == 23


def test_gru_dimensions() -> None:
    plain = make("type=GruNonlinearityComponent cell-dim=6")
    projected = make("type=GruNonlinearityComponent cell-dim=6 recurrent-dim=4")
    output = make("type=OutputGruNonlinearityComponent cell-dim=6 param-mean=3 param-stddev=0")
    assert isinstance(plain, GruNonlinearity)
    assert isinstance(output, OutputGruNonlinearity)
    assert [c.input_dim for c in (plain, projected, output)] == [24, 26, 18]
    assert [c.output_dim for c in (plain, projected, output)] == [12, 12, 12]
    assert not plain.is_projected
    np.testing.assert_array_equal(output.w_h, np.full(6, 3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=GruNonlinearityComponent", "needs 'cell-dim'"),
        (
            "type=GruNonlinearityComponent cell-dim=4 recurrent-dim=5",
            "recurrent-dim (=5) is above cell-dim (=4)",
        ),
        (
            "type=LstmNonlinearityComponent cell-dim=4 self-repair-scale=0.5",
            "self-repair-scale (=0.5) must be between 0 and 0.1",
        ),
    ],
)
def test_mistakes_in_recurrent_components(text: str, message: str) -> None:
    assert message in str(mistake(text))


ATTENTION = "type=RestrictedAttentionComponent key-dim=4 value-dim=5"


def test_attention() -> None:
    attention = make(
        f"{ATTENTION} num-heads=2 num-left-inputs=2 num-right-inputs=1 time-stride=3 "
        "num-left-inputs-required=1 num-right-inputs-required=-1"
    )
    assert isinstance(attention, RestrictedAttention)
    assert (attention.input_dim, attention.output_dim) == (2 * 17, 2 * 9)
    assert tuple(attention.window.offsets) == (-6, -3, 0, 3)
    assert tuple(attention.window.required) == (-3, 0, 3)
    assert attention.key_scale == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("num-left-inputs=0 num-right-inputs=0", "num-right-inputs are both zero"),
        (
            "num-left-inputs=1 num-right-inputs=0 num-left-inputs-required=2",
            "num-left-inputs-required (=2) is above num-left-inputs (=1)",
        ),
        ("num-left-inputs=1 num-right-inputs=0 key-scale=2", "key-scale (=2) must be at most 1"),
    ],
)
def test_mistakes_in_attention(settings: str, message: str) -> None:
    assert message in str(mistake(f"{ATTENTION} {settings}"))


def test_statistics() -> None:
    extraction = make("type=StatisticsExtractionComponent input-dim=6 output-period=4")
    assert isinstance(extraction, StatisticsExtraction)
    assert extraction.output_dim == 13
    assert (tuple(extraction.window.offsets), extraction.window.modulus) == ((0, 1, 2, 3), 4)
    pooling = make(
        "type=StatisticsPoolingComponent input-dim=13 input-period=4 left-context=8 "
        "right-context=4 num-log-count-features=2 output-stddevs=true"
    )
    assert isinstance(pooling, StatisticsPooling)
    assert pooling.output_dim == 14
    assert (tuple(pooling.window.offsets), pooling.window.every) == ((-8, -4, 0, 4), 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("left-context=0 right-context=0", "left-context and right-context are both zero"),
        (
            "left-context=3 right-context=0 input-period=2",
            "left-context (=3) must be a multiple of input-period (=2)",
        ),
        ("left-context=1 right-context=0 output-stddevs=true", "input-dim (=4) must be odd"),
    ],
)
def test_mistakes_in_statistics_pooling(settings: str, message: str) -> None:
    error = mistake(f"type=StatisticsPoolingComponent input-dim=4 {settings}")
    assert message in str(error)


def test_blocks() -> None:
    repeated = make("type=RepeatedAffineComponent input-dim=6 output-dim=4 num-repeats=2")
    natural = make(
        "type=NaturalGradientRepeatedAffineComponent input-dim=6 output-dim=4 num-repeats=2"
    )
    block = make("type=BlockAffineComponent input-dim=6 output-dim=4 num-blocks=2")
    assert isinstance(repeated, RepeatedAffine)
    assert isinstance(natural, NaturalGradientRepeatedAffine)
    assert isinstance(block, BlockAffine)
    assert (repeated.linear.shape, block.linear.shape) == ((2, 3), (4, 3))
    assert not repeated.bias.any()
    assert block.bias.all()
    assert [c.num_parameters for c in (repeated, natural, block)] == [8, 8, 16]
    error = mistake("type=BlockAffineComponent input-dim=6 output-dim=4 num-blocks=4")
    assert "input-dim (=6) must be a multiple of num-blocks (=4)" in str(error)


def test_constants_are_parameters_only_if_they_are_updatable() -> None:
    constant = make("type=ConstantComponent output-dim=3 output-mean=2")
    assert isinstance(constant, Constant)
    assert list(constant.parameters()) == ["output"]
    assert constant.window.offsets == ()
    fixed = make("type=ConstantFunctionComponent input-dim=2 output-dim=3 is-updatable=false")
    assert isinstance(fixed, ConstantFunction)
    fixed.output = np.ones(3, np.float32)
    fixed.scale(0.5)
    assert fixed.parameters() == {}
    assert fixed.output.all()


def test_distribute_reads_blocks_of_columns() -> None:
    distribute = make("type=DistributeComponent input-dim=12 output-dim=4")
    assert isinstance(distribute, Distribute)
    places = [distribute.input_place(x) for x in (-1, 0, 2, 3)]
    assert places == [(-1, 8), (0, 0), (0, 8), (1, 0)]


NESTED = (
    "type=CompositeComponent num-components=2 component1='type=TanhComponent dim=4' "
    "component2='type=AffineComponent input-dim=4 output-dim=3 learning-rate-factor=0.5'"
)


def test_a_composite_names_the_parameters_inside() -> None:
    composite = make(NESTED)
    assert isinstance(composite, Composite)
    assert list(composite.parameters()) == ["component2.linear", "component2.bias"]
    assert composite.num_parameters == 15
    composite.set_learning_rate(0.1)
    assert composite.components[1].learning_rate == np.float32(0.05)
    composite.scale(0.0)
    assert not composite.parameters()["component2.linear"].any()


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        (NESTED.replace("Tanh", "Sigmoid"), "SigmoidComponent, AffineComponent"),
        (
            "type=CompositeComponent num-components=1 component1='type=AffineComponent input-dim=4 "
            "output-dim=3'",
            "AffineComponent",
        ),
    ],
)
def test_composites_of_other_components_cannot_be_added_up(other: str, kind: str) -> None:
    with pytest.raises(FieldError, match=f"inside: TanhComponent, AffineComponent and {kind}$"):
        make(NESTED).weighted_sum([make(other)], [0.5, 0.5])


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        (NESTED.replace("=2 ", "=3 ", 1), "'component3' is missing", "3"),
        (NESTED.replace("=2 ", "=1 ", 1), "'component2' is not one of 1 components", "type=Aff"),
        (NESTED.replace("dim=4'", "dim=5'"), "component2 reads 4 columns, component1 makes 5", ""),
        (NESTED.replace("Tanh", "Tahn"), "unknown component type 'TahnComponent'", "TahnComponent"),
        (NESTED + " learning-rate=1", "'learning-rate' belongs to the components inside", "1"),
        (
            "type=CompositeComponent num-components=1 component1='type=TdnnComponent input-dim=1 "
            "output-dim=1 time-offsets=-1,0'",
            "TdnnComponent reads other rows than its own",
            "type=Tdnn",
        ),
    ],
)
def test_mistakes_in_composites(text: str, message: str, place: str) -> None:
    error = mistake(text)
    assert message in str(error)
    assert error.span is not None
    assert error.span.text.startswith(place)


def test_clip_gradient_defaults_and_counts() -> None:
    clip = make("type=ClipGradientComponent dim=3")
    assert isinstance(clip, ClipGradient)
    assert clip.clipping_threshold == 15
    assert clip.self_repair_clipped_proportion_threshold == np.float32(0.01)
    clip.count, clip.num_clipped = 7, 3
    clip.scale(0.5)
    assert (clip.count, clip.num_clipped) == (3, 1)


def test_weighted_sums_of_components() -> None:
    text = "type=LstmNonlinearityComponent cell-dim=2"
    first, second = make(text, seed=1), make(text, seed=2)
    assert isinstance(first, LstmNonlinearity)
    assert isinstance(second, LstmNonlinearity)
    first.count, second.count = 10.0, 30.0
    second.value_avg = np.ones((5, 2), np.float32)
    both = first.weighted_sum([second], [0.5, 0.5])
    assert isinstance(both, LstmNonlinearity)
    np.testing.assert_allclose(both.weights, (first.weights + second.weights) / 2, rtol=1e-6)
    assert both.count == 20
    np.testing.assert_allclose(both.value_avg, 0.75)


def test_weighted_sums_inside_composites_and_of_fixed_constants() -> None:
    first, second = make(NESTED, seed=1), make(NESTED, seed=2)
    both = first.weighted_sum([second], [0.25, 0.75])
    for name, array in both.parameters().items():
        expected = first.parameters()[name] * 0.25 + second.parameters()[name] * 0.75
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-7)
    fixed = "type=ConstantComponent output-dim=2 output-stddev=1 is-updatable=false"
    one = make(fixed, seed=1)
    assert one.weighted_sum([make(fixed, seed=2)], [0.5, 0.5]) is one


def test_weighted_sums_of_whole_numbers_and_arrays() -> None:
    clip = make("type=ClipGradientComponent dim=3")
    other = make("type=ClipGradientComponent dim=3")
    assert isinstance(clip, ClipGradient)
    assert isinstance(other, ClipGradient)
    clip.count, other.count = 4, 8
    assert clip.weighted_sum([other], [0.5, 0.5]).count == 6
    text = f"{ATTENTION} num-left-inputs=1 num-right-inputs=0"
    attention, without = make(text), make(text)
    assert isinstance(attention, RestrictedAttention)
    attention.stats_count, attention.entropy_stats = 2.0, np.array([3.0])
    attention.posterior_stats = np.ones((1, 2))
    both = without.weighted_sum([attention], [0.5, 0.5])
    assert isinstance(both, RestrictedAttention)
    np.testing.assert_allclose(both.entropy_stats, [1.5])
