"""Single trained transforms: affine-layer, affine-component, linear-component."""

from __future__ import annotations

import math

from nnet.text.syntax import Line
from nnet.text.values import real
from nnet.xconfig import common
from nnet.xconfig.layer import Layer, LayerWithInput, input_dim
from nnet.xconfig.option import NOT_NEGATIVE, Extra, Option
from nnet.xconfig.registry import register
from nnet.xconfig.scope import Output


def _one_over_sqrt_of_input_dim(layer: Layer) -> float:
    """1 / sqrt(input dimension)"""
    return 1.0 / math.sqrt(input_dim(layer))


class _Transform(LayerWithInput):
    """A component from the input to `dim` columns, with the layer's name."""

    dim = common.output_dim()

    def outputs(self) -> dict[str, Output]:
        return {"": self.output("", self.dim)}

    @property
    def dims(self) -> dict[str, int]:
        return {"input-dim": self.input.dim, "output-dim": self.dim}


@register("affine-layer")
class AffineLayer(_Transform):
    """An affine transform with natural gradient, all its options with their defaults."""

    example = "name=affine dim=512"
    param_stddev = Option(
        real,
        _one_over_sqrt_of_input_dim,
        common.MATRIX_STDDEV,
        unset=-1.0,
        check=NOT_NEGATIVE,
    )
    bias_stddev = common.stddev(1.0, common.BIAS_STDDEV)
    bias_mean = Option(real, 0.0, "initial mean of the bias")
    max_change = common.max_change()
    l2_regularize = common.l2_regularize()
    learning_rate_factor = Option(real, 1.0, common.LEARNING_RATE_FACTOR, check=NOT_NEGATIVE)
    ng_affine_options = Extra("further settings of the component")

    def config(self) -> list[Line]:
        # Kaldi's tool drops learning-rate-factor; here a factor other than 1 has its effect.
        factor = self.passed("learning-rate-factor") if self.learning_rate_factor != 1.0 else {}
        chain = self.chain()
        chain.add(
            self.name,
            "NaturalGradientAffineComponent",
            self.dims,
            self.passed("param-stddev", "bias-stddev", "bias-mean", "max-change"),
            self.passed("l2-regularize"),
            factor,
            self.ng_affine_options.settings,
        )
        return chain.lines


@register("affine-component")
class AffineComponent(_Transform):
    """An affine transform with natural gradient."""

    example = "name=affine dim=512"
    orthonormal_constraint = common.passed_orthonormal_constraint()
    max_change = common.max_change()
    param_stddev = common.passed_not_negative(common.MATRIX_STDDEV)
    bias_stddev = common.passed_not_negative(common.BIAS_STDDEV)
    l2_regularize = common.passed_not_negative(common.L2_REGULARIZE)

    def config(self) -> list[Line]:
        chain = self.chain()
        chain.add(
            self.name,
            "NaturalGradientAffineComponent",
            self.dims,
            self.passed("orthonormal-constraint", "max-change", "l2-regularize"),
            self.passed("param-stddev", "bias-stddev"),
        )
        return chain.lines


@register("linear-component")
class LinearComponent(_Transform):
    """A linear transform with natural gradient: an affine one without a bias."""

    example = "name=linear dim=256 orthonormal-constraint=-1.0"
    orthonormal_constraint = common.passed_orthonormal_constraint()
    max_change = common.max_change()
    l2_regularize = common.passed_not_negative(common.L2_REGULARIZE)
    param_stddev = common.passed_not_negative(common.MATRIX_STDDEV)
    learning_rate_factor = common.passed_not_negative(common.LEARNING_RATE_FACTOR)

    def config(self) -> list[Line]:
        chain = self.chain()
        chain.add(
            self.name,
            "LinearComponent",
            self.dims,
            self.passed("orthonormal-constraint", "max-change", "l2-regularize"),
            self.passed("param-stddev", "learning-rate-factor"),
        )
        return chain.lines
