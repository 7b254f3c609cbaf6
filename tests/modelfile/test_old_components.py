"""Variants that older versions of nnet3 wrote."""

from __future__ import annotations

import numpy as np
import pytest

from nnet.components.affine import Affine, NaturalGradientAffine
from nnet.components.base import Component
from nnet.components.dropout import Dropout, DropoutMask
from nnet.components.elementwise import NaturalGradientPerElementScale, PerElementOffset
from nnet.components.gradient import BackpropTruncation, ClipGradient
from nnet.components.nonlinearity import Sigmoid
from nnet.components.normalize import Normalize
from nnet.components.reshape import NoOp, SumGroup
from nnet.components.tdnn import Tdnn
from nnet.errors import NnetError
from nnet.modelfile.component import read_component, write_component
from nnet.modelfile.tokens import TextReader
from nnet.modelfile.writing import TextWriter

LINEAR = "<LinearParams> [ 1 2\n 3 4 ]\n<BiasParams> [ 5 6 ]\n"


def read(text: str) -> Component:
    return read_component(TextReader(text.encode(), "old"))


def rewritten(text: str) -> str:
    writer = TextWriter()
    write_component(writer, read(text))
    return bytes(writer).decode()


def test_affine_with_is_gradient_at_the_end() -> None:
    component = read(
        f"<AffineComponent> <LearningRate> 0.5 {LINEAR}<IsGradient> T </AffineComponent> "
    )
    assert isinstance(component, Affine)
    assert component.is_gradient


def test_affine_without_a_learning_rate() -> None:
    component = read(f"<AffineComponent> {LINEAR}</AffineComponent> ")
    assert isinstance(component, Affine)
    assert component.learning_rate == np.float32(0.001)
    assert component.learning_rate_factor == 1.0


def test_natural_gradient_affine_with_fields_long_removed() -> None:
    text = (
        f"<NaturalGradientAffineComponent> <LearningRate> 0.5 {LINEAR}<RankIn> 1 <RankOut> 1 "
        "<UpdatePeriod> 4 <NumSamplesHistory> 2000 <Alpha> 4 <MaxChangePerSample> 0.1 "
        "<IsGradient> F <UpdateCount> 1 <ActiveScalingCount> 2 <MaxChangeScaleStats> 3 "
        "<NaturalGradientAffineComponent> "
    )
    component = read(text)
    assert isinstance(component, NaturalGradientAffine)
    assert component.rank_in == 1
    assert "MaxChange" not in rewritten(text)


def test_tdnn_with_one_alpha() -> None:
    component = read(
        f"<TdnnComponent> <LearningRate> 0.5 <TimeOffsets> [ 0 1 ]\n{LINEAR}"
        "<OrthonormalConstraint> 0 <UseNaturalGradient> T <NumSamplesHistory> 2000 <Alpha> 3 "
        "<RankInOut> 1 1 </TdnnComponent> "
    )
    assert isinstance(component, Tdnn)
    assert (component.alpha_in, component.alpha_out) == (3.0, 3.0)


def test_noop_with_statistics() -> None:
    component = read(
        "<NoOpComponent> <Dim> 3 <ValueAvg> [ ]\n<DerivAvg> [ ]\n<Count> 0 <OderivRms> [ ]\n"
        "<OderivCount> 0 <NumDimsSelfRepaired> 0 <NumDimsProcessed> 0 </NoOpComponent> "
    )
    assert isinstance(component, NoOp)
    assert component.backprop_scale == 1.0


def test_sigmoid_without_derivatives_of_the_objective() -> None:
    text = (
        "<SigmoidComponent> <Dim> 2 <ValueAvg> [ 1 2 ]\n<DerivAvg> [ 3 4 ]\n<Count> 5 "
        "<SelfRepairScale> 0.5 </SigmoidComponent> "
    )
    component = read(text)
    assert isinstance(component, Sigmoid)
    assert (component.nonlinearity_count, component.self_repair_scale) == (5.0, 0.5)
    assert "<OderivCount> 0 " in rewritten(text)


def test_normalize_with_dim_and_statistics() -> None:
    component = read(
        "<NormalizeComponent> <Dim> 4 <ValueAvg> [ ]\n<DerivAvg> [ ]\n<Count> 0 "
        "</NormalizeComponent> "
    )
    assert isinstance(component, Normalize)
    assert (component.dim, component.block_dim, component.target_rms) == (4, 4, 1.0)


def test_dropout_without_modes() -> None:
    component = read("<DropoutComponent> <Dim> 2 <DropoutProportion> 0.5 </DropoutComponent> ")
    assert isinstance(component, Dropout)
    assert not component.dropout_per_frame
    assert not component.test_mode


def test_per_element_offset_without_dim() -> None:
    component = read(
        "<PerElementOffsetComponent> <LearningRate> 0.5 <Offsets> [ 1 2 ]\n"
        "</PerElementOffsetComponent> "
    )
    assert isinstance(component, PerElementOffset)
    assert (component.dim, component.use_natural_gradient) == (2, True)


def test_sum_group_closed_by_its_opening_token() -> None:
    component = read("<SumGroupComponent> <Sizes> [ 1 2 ]\n<SumGroupComponent> ")
    assert isinstance(component, SumGroup)
    assert component.sizes == (1, 2)


@pytest.mark.parametrize("flag", ["T", "F"])
def test_per_element_scale_writes_is_gradient_twice(flag: str) -> None:
    first = "<IsGradient> T " if flag == "T" else ""
    text = (
        f"<NaturalGradientPerElementScaleComponent> {first}<LearningRate> 0.5 <Params>  [ 1 2 ]\n"
        f"<IsGradient> {flag} <Rank> 8 <UpdatePeriod> 10 <NumSamplesHistory> 2000 <Alpha> 4 "
        "</NaturalGradientPerElementScaleComponent> "
    )
    component = read(text)
    assert isinstance(component, NaturalGradientPerElementScale)
    assert component.is_gradient is (flag == "T")
    assert rewritten(text) == text


def test_clip_gradient_without_self_repair() -> None:
    component = read(
        "<ClipGradientComponent> <Dim> 2 <ClippingThreshold> 5 <NormBasedClipping> T "
        "<NumElementsClipped> 1 <NumElementsProcessed> 2 </ClipGradientComponent> "
    )
    assert isinstance(component, ClipGradient)
    assert component.self_repair_clipped_proportion_threshold == 1.0
    assert (component.self_repair_scale, component.num_backpropped) == (0.0, 0)


def test_backprop_truncation_without_scale() -> None:
    component = read(
        "<BackpropTruncationComponent> <Dim> 2 <ClippingThreshold> 5 <ZeroingThreshold> 3 "
        "<ZeroingInterval> 20 <RecurrenceInterval> 1 <NumElementsClipped> 1 <NumElementsZeroed> 0 "
        "<NumElementsProcessed> 2 <NumZeroingBoundaries> 1 </BackpropTruncationComponent> "
    )
    assert isinstance(component, BackpropTruncation)
    assert component.scale_factor == 1.0


def test_dropout_mask_without_test_mode() -> None:
    component = read(
        "<DropoutMaskComponent> <OutputDim> 3 <DropoutProportion> 0.25 </DropoutMaskComponent> "
    )
    assert isinstance(component, DropoutMask)
    assert (component.test_mode, component.continuous) == (False, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<CompositeComponent> <LearningRate> 1 <MaxRowsProcess> 2 <NumComponents> 9 ", "number"),
        ("<CompositeComponent> <LearningRate> 1 <MaxRowsProcess> 2 <NumComponents> -1 ", "number"),
        (
            "<TimeHeightConvolutionComponent> <LearningRate> 1 <NumFiltersIn> 3 ",
            "expected <Model>",
        ),
        (
            "<TimeHeightConvolutionComponent> <Model> <ConvolutionModel> <NumFiltersIn> 3 "
            "<NumFiltersOut> 3 <HeightIn> 3 <HeightOut> 3 <HeightSubsampleOut> 1 <Offsets> [ 0 ]",
            "pairs of integers such as -1,0",
        ),
    ],
)
def test_damaged_groups(text: str, message: str) -> None:
    with pytest.raises(NnetError, match=message):
        read(text)
