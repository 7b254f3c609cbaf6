"""Config lines to components: keys, defaults, initial parameters, and mistakes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnet.components.affine import Affine, Linear, NaturalGradientAffine
from nnet.components.base import Component
from nnet.components.config import component_from_line
from nnet.components.dropout import GeneralDropout
from nnet.components.elementwise import PerElementOffset, ScaleAndOffset
from nnet.components.initial import Initializer
from nnet.components.normalize import BatchNorm, Normalize
from nnet.components.registry import component_types
from nnet.components.reshape import SumGroup
from nnet.components.tdnn import Tdnn
from nnet.errors import NnetError
from nnet.text.parse import parse_config
from nnet.text.source import TextError


def make(text: str, seed: int = 0, m: np.ndarray | None = None) -> Component:
    """The component of `component name=c <text>`; `m` is the content of file m."""

    def read(name: str) -> np.ndarray:
        if name != "m" or m is None:
            raise NnetError(f"{name}: cannot be read")
        return m

    (line,) = parse_config(f"component name=c {text}", "net.config").lines
    return component_from_line(line, Initializer(np.random.default_rng(seed), read, read))


def mistake(text: str, m: np.ndarray | None = None) -> TextError:
    with pytest.raises(TextError) as caught:
        make(text, m=m)
    return caught.value


def test_affine_parameters_follow_nnet3_distributions() -> None:
    affine = make("type=AffineComponent input-dim=400 output-dim=300")
    assert isinstance(affine, Affine)
    assert affine.linear.shape == (300, 400)
    assert affine.linear.dtype == np.float32
    assert affine.linear.std() == pytest.approx(1 / math.sqrt(400), rel=0.02)
    assert affine.bias.std() == pytest.approx(1.0, rel=0.1)


def test_affine_stddevs_can_be_set() -> None:
    text = "type=NaturalGradientAffineComponent input-dim=400 output-dim=300"
    affine = make(f"{text} param-stddev=0 bias-stddev=0.1 bias-mean=5")
    assert isinstance(affine, NaturalGradientAffine)
    assert not affine.linear.any()
    assert affine.bias.mean() == pytest.approx(5.0, abs=0.05)
    assert affine.bias.std() == pytest.approx(0.1, rel=0.2)


def test_natural_gradient_ranks_default_to_half_the_dimension_up_to_20_and_80() -> None:
    small = make("type=NaturalGradientAffineComponent input-dim=11 output-dim=6")
    large = make("type=NaturalGradientAffineComponent input-dim=100 output-dim=500 rank-in=-1")
    assert isinstance(small, NaturalGradientAffine)
    assert isinstance(large, NaturalGradientAffine)
    assert (small.rank_in, small.rank_out) == (6, 3)
    assert (large.rank_in, large.rank_out) == (20, 80)


def test_tdnn_counts_its_offsets_in_the_default_stddev() -> None:
    tdnn = make("type=TdnnComponent input-dim=100 output-dim=300 time-offsets=-3,0,1,5")
    assert isinstance(tdnn, Tdnn)
    assert tdnn.linear.shape == (300, 400)
    assert (tdnn.input_dim, tdnn.output_dim) == (100, 300)
    assert tdnn.linear.std() == pytest.approx(1 / math.sqrt(400), rel=0.02)
    assert tdnn.window.offsets == (-3, 0, 1, 5)


def test_tdnn_without_bias() -> None:
    tdnn = make("type=TdnnComponent input-dim=4 output-dim=3 time-offsets=0 use-bias=false")
    assert isinstance(tdnn, Tdnn)
    assert tdnn.bias is None
    assert list(tdnn.parameters()) == ["linear"]
    assert tdnn.num_parameters == 12


def test_same_seed_same_parameters() -> None:
    text = "type=LinearComponent input-dim=5 output-dim=4"
    first, again, other = make(text, 1), make(text, 1), make(text, 2)
    assert isinstance(first, Linear)
    assert isinstance(again, Linear)
    assert isinstance(other, Linear)
    np.testing.assert_array_equal(first.linear, again.linear)
    assert not np.array_equal(first.linear, other.linear)


def test_matrix_file_gives_linear_and_bias() -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    affine = make("type=AffineComponent matrix=m", m=matrix)
    assert isinstance(affine, Affine)
    np.testing.assert_array_equal(affine.linear, matrix[:, :3])
    np.testing.assert_array_equal(affine.bias, matrix[:, 3])


def test_defaults_that_depend_on_other_fields() -> None:
    batchnorm = make("type=BatchNormComponent dim=12 block-dim=4")
    assert isinstance(batchnorm, BatchNorm)
    assert batchnorm.stats_mean.shape == (4,)
    assert batchnorm.epsilon == np.float32(0.001)
    assert make("type=BatchNormComponent dim=12").block_dim == 12


def test_normalize_accepts_both_names_of_its_dimension() -> None:
    with_stddev = make("type=NormalizeComponent input-dim=12 block-dim=4 add-log-stddev=true")
    assert isinstance(with_stddev, Normalize)
    assert (with_stddev.input_dim, with_stddev.output_dim) == (12, 15)


def test_sum_group_sizes() -> None:
    equal = make("type=SumGroupComponent input-dim=12 output-dim=3")
    given = make("type=SumGroupComponent sizes=2,3,4")
    assert isinstance(equal, SumGroup)
    assert equal.sizes == (4, 4, 4)
    assert (given.input_dim, given.output_dim) == (9, 3)


def test_blocks_share_parameters() -> None:
    offset = make("type=PerElementOffsetComponent dim=12 block-dim=4 param-mean=2")
    scale = make("type=ScaleAndOffsetComponent dim=12 block-dim=3")
    assert isinstance(offset, PerElementOffset)
    assert isinstance(scale, ScaleAndOffset)
    np.testing.assert_array_equal(offset.offsets, np.full(4, 2, np.float32))
    np.testing.assert_array_equal(scale.scales, np.ones(3, np.float32))
    assert (offset.input_dim, offset.num_parameters) == (12, 4)


def test_specaugment_regions_mean_nothing_without_a_proportion() -> None:
    dropout = make("type=GeneralDropoutComponent dim=4 specaugment-max-regions=3")
    assert isinstance(dropout, GeneralDropout)
    assert dropout.specaugment_max_regions == 1


@pytest.mark.parametrize("type_name", component_types())
def test_every_type_documents_its_keys(type_name: str) -> None:
    cls = component_types()[type_name]
    keys = [s.key for s in cls.settings] + [s.key for s in cls.specs().values() if s.key]
    assert cls.__doc__ is not None
    assert all(f"{key} (" in cls.__doc__ for key in keys)


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("type=AfineComponent", 23, "unknown component type 'AfineComponent'"),
        ("dim=3", 1, "this component has no type"),
        ("type=NoOpComponent dim=3 dimm=4", 43, "NoOpComponent has no key 'dimm'"),
        ("type=NoOpComponent dim=x", 41, "wrong value 'x' for 'dim'"),
        ("type=NoOpComponent dim=-3", 41, "dim (=-3) must be positive"),
        ("type=NoOpComponent", 1, "NoOpComponent needs 'dim'"),
        ("type=DropoutComponent dim=3", 1, "DropoutComponent needs 'dropout-proportion'"),
        (
            "type=DropoutComponent dim=3 dropout-proportion=1.5",
            65,
            "dropout-proportion (=1.5) must be between 0 and 1",
        ),
        ("type=AffineComponent input-dim=3", 1, "needs 'output-dim' (or 'matrix')"),
        (
            "type=BatchNormComponent dim=12 block-dim=5",
            59,
            "dim (=12) must be a multiple of block-dim (=5)",
        ),
        (
            "type=PnormComponent input-dim=12 output-dim=5",
            62,
            "input-dim (=12) must be a multiple of output-dim (=5)",
        ),
        (
            "type=SumGroupComponent input-dim=12 output-dim=5",
            65,
            "input-dim (=12) must be a multiple of output-dim (=5)",
        ),
        (
            "type=TdnnComponent input-dim=3 output-dim=3 time-offsets=1,1",
            75,
            "time-offsets (=1,1) must be one or more different integers",
        ),
        (
            "type=PermuteComponent column-map=0,2,2",
            51,
            "column-map (=0,2,2) must be a permutation of 0, 1, ...",
        ),
        (
            "type=GeneralDropoutComponent dim=3 continuous=true specaugment-max-proportion=0.5",
            64,
            "continuous and specaugment-max-proportion exclude each other",
        ),
        ("type=AffineComponent matrix=missing", 46, "missing: cannot be read"),
        ("type=FixedAffineComponent matrix=missing", 51, "Kaldi's nnet-get-feature-transform"),
        (
            "type=AffineComponent matrix=m param-stddev=1",
            48,
            "'param-stddev' has no effect together with 'matrix'",
        ),
        ("type=AffineComponent matrix=m input-dim=7", 58, "input-dim (=7) differs"),
        ("type=NoOpComponent dim=3 backprop-scale=1e60", 58, "wrong value '1e60'"),
        ("type=PerElementOffsetComponent", 1, "'dim' (or 'vector') is missing"),
        (
            "type=AffineComponent input-dim=2000000000 output-dim=2000000000",
            49,
            "input-dim (=2000000000) is above 10000000",
        ),
    ],
)
def test_mistakes_are_shown_where_they_are(text: str, column: int, message: str) -> None:
    error = mistake(text, m=np.zeros((3, 4), np.float32))
    assert error.span is not None
    assert message in str(error)
    assert (error.span.line, error.span.column) == (1, column)


def test_unknown_keys_list_the_known_ones_and_the_nearest() -> None:
    text = str(mistake("type=NaturalGradientAffineComponent input-dim=3 ouput-dim=4"))
    assert "did you mean 'output-dim'?" in text
    assert "rank-in" in text
    assert "l2-regularize" in text


def test_unknown_types_suggest_the_nearest() -> None:
    text = str(mistake("type=RectifiedLinerComponent dim=3"))
    assert "did you mean 'RectifiedLinearComponent'?" in text
