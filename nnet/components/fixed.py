"""Components whose numbers are given and not trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from nnet.components.affine import INPUT_DIM, OUTPUT_DIM, affine_from_file, matrix_setting
from nnet.components.base import Component, check_length
from nnet.components.field import POSITIVE, REQUIRED, FieldError, Kind, Role, Setting, stored
from nnet.components.registry import register
from nnet.components.summary import mean_stddev, rms

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer


@register("FixedAffineComponent")
@dataclass(kw_only=True, eq=False)
class FixedAffine(Component):
    """y = linear x + bias, not trained; used for LDA-like transforms."""

    settings: ClassVar[tuple[Setting, ...]] = (
        matrix_setting(
            "linear and bias side by side",
            hint="such a file (lda.mat) is written by Kaldi's nnet-get-feature-transform, which "
            "steps/nnet3/train_*.py run; its path is seen from the current folder",
        ),
        INPUT_DIM,
        OUTPUT_DIM,
    )
    info_order: ClassVar[tuple[str, ...]] = (*Component.info_order, "linear", "bias")

    linear: np.ndarray = stored(
        Kind.MATRIX,
        "<LinearParams>",
        "matrix (output_dim, input_dim)",
        role=Role.FIXED,
        info=lambda c: rms("linear-params", c.linear),
    )
    bias: np.ndarray = stored(
        Kind.VECTOR,
        "<BiasParams>",
        "bias (output_dim,)",
        role=Role.FIXED,
        info=lambda c: mean_stddev("bias", c.bias),
    )

    @classmethod
    def create(cls, given: Given, init: Initializer) -> FixedAffine:
        if given["matrix"] is not None:
            linear, bias = affine_from_file(given, init)
            return cls(linear=linear, bias=bias)
        linear = init.normal(given["output-dim"], given["input-dim"])
        return cls(linear=linear, bias=init.normal(given["output-dim"]))

    @property
    def input_dim(self) -> int:
        return int(self.linear.shape[1])

    @property
    def output_dim(self) -> int:
        return int(self.linear.shape[0])

    def check(self) -> None:
        if self.linear.size == 0:
            raise FieldError("linear", "the matrix is empty")
        check_length(self, "bias", self.output_dim, "one for each row of the matrix")


@register("FixedScaleComponent")
@dataclass(kw_only=True, eq=False)
class FixedScale(Component):
    """Multiplies each column by a given number."""

    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("scales", Kind.TEXT, "file with the vector of scales"),
        Setting("dim", Kind.INTEGER, "number of columns", REQUIRED, POSITIVE, unless="scales"),
        Setting(
            "scale",
            Kind.REAL,
            "the scale of all columns; random scales if it is not given",
            unless="scales",
        ),
    )
    info_order: ClassVar[tuple[str, ...]] = (*Component.info_order, "scales")

    scales: np.ndarray = stored(
        Kind.VECTOR,
        "<Scales>",
        "scales (dim,)",
        role=Role.FIXED,
        info=lambda c: mean_stddev("scales", c.scales),
    )

    @classmethod
    def create(cls, given: Given, init: Initializer) -> FixedScale:
        if given["scales"] is not None:
            return cls(scales=init.read_vector(given["scales"]))
        if given["scale"] is not None:
            return cls(scales=np.full(given["dim"], given["scale"], np.float32))
        return cls(scales=init.normal(given["dim"]))

    @property
    def input_dim(self) -> int:
        return int(self.scales.size)

    @property
    def output_dim(self) -> int:
        return int(self.scales.size)

    def check(self) -> None:
        if self.scales.size == 0:
            raise FieldError("scales", "the vector of scales is empty")


@register("FixedBiasComponent")
@dataclass(kw_only=True, eq=False)
class FixedBias(Component):
    """Adds a given number to each column."""

    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("bias", Kind.TEXT, "file with the vector of numbers to add"),
        Setting("dim", Kind.INTEGER, "number of columns", REQUIRED, POSITIVE, unless="bias"),
    )
    info_order: ClassVar[tuple[str, ...]] = (*Component.info_order, "bias")

    bias: np.ndarray = stored(
        Kind.VECTOR,
        "<Bias>",
        "numbers to add (dim,)",
        role=Role.FIXED,
        info=lambda c: mean_stddev("bias", c.bias),
    )

    @classmethod
    def create(cls, given: Given, init: Initializer) -> FixedBias:
        if given["bias"] is not None:
            return cls(bias=init.read_vector(given["bias"]))
        return cls(bias=init.normal(given["dim"]))

    @property
    def input_dim(self) -> int:
        return int(self.bias.size)

    @property
    def output_dim(self) -> int:
        return int(self.bias.size)

    def check(self) -> None:
        if self.bias.size == 0:
            raise FieldError("bias", "the vector is empty")
