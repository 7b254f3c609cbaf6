"""Scaling, learning rates and statistics."""

from __future__ import annotations

import numpy as np

from nnet.components.affine import NaturalGradientAffine
from nnet.components.nonlinearity import RectifiedLinear
from nnet.components.normalize import BatchNorm


def affine() -> NaturalGradientAffine:
    return NaturalGradientAffine(
        linear=np.ones((2, 3), np.float32), bias=np.ones(2, np.float32), learning_rate_factor=0.5
    )


def test_scaling_multiplies_parameters() -> None:
    component = affine()
    component.scale(0.25)
    np.testing.assert_array_equal(component.linear, np.full((2, 3), 0.25))
    np.testing.assert_array_equal(component.bias, np.full(2, 0.25))
    assert component.learning_rate_factor == 0.5


def test_scaling_multiplies_counts_and_keeps_averages() -> None:
    relu = RectifiedLinear(
        dim=2, value_avg=np.array([1, 2], np.float32), nonlinearity_count=8.0, oderiv_count=4.0
    )
    relu.scale(0.5)
    np.testing.assert_array_equal(relu.value_avg, [1, 2])
    assert (relu.nonlinearity_count, relu.oderiv_count) == (4.0, 2.0)


def test_scaling_by_zero_clears_averages() -> None:
    norm = BatchNorm(dim=2, count=3.0, stats_mean=np.array([1, 2], np.float32))
    norm.scale(0.0)
    assert norm.count == 0
    assert not norm.stats_mean.any()


def test_the_learning_rate_is_multiplied_by_the_factor() -> None:
    component = affine()
    component.set_learning_rate(0.1)
    assert component.learning_rate == np.float32(np.float32(0.1) * 0.5)


def test_parameters_are_in_nnet3_order() -> None:
    assert list(affine().parameters()) == ["linear", "bias"]
    assert affine().num_parameters == 8
