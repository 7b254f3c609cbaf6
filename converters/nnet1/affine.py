"""Components of nnet1 with a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnet.components.field import Check, FieldError, Kind, Setting, stored
from nnet.converters.legacy import Rows, check_shape
from nnet.converters.nnet1.base import (
    DIMS,
    TYPES,
    Nnet1Component,
    array,
    bias_learn_rate_field,
    learn_rate_field,
    max_norm_field,
    uniform,
)
from nnet.converters.nnet1.columns import AddShift
from nnet.converters.nnet1.model import read_network
from nnet.converters.reference import affine, sigmoid
from nnet.errors import NnetError

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer

PARAM_STDDEV = Setting("<ParamStddev>", Kind.REAL, "standard deviation of the matrix", 0.1)
BIAS_MEAN = Setting("<BiasMean>", Kind.REAL, "mean of the bias", -2.0)
BIAS_RANGE = Setting("<BiasRange>", Kind.REAL, "width of the uniform distribution of the bias", 2.0)


@TYPES.register("AffineTransform")
@dataclass(kw_only=True, eq=False)
class AffineTransform(Nnet1Component):
    """y = linear x + bias."""

    settings: ClassVar[tuple[Setting, ...]] = (*DIMS, PARAM_STDDEV, BIAS_MEAN, BIAS_RANGE)
    line_ends: ClassVar[tuple[str, ...]] = ("max_norm",)

    learn_rate: float = learn_rate_field()
    bias_learn_rate: float = bias_learn_rate_field()
    max_norm: float = max_norm_field()
    linear: np.ndarray = array(Kind.MATRIX, "matrix (output_dim, input_dim)")
    bias: np.ndarray = array(Kind.VECTOR, "bias (output_dim,)")

    @classmethod
    def initial(
        cls, input_dim: int, output_dim: int, given: Given, init: Initializer
    ) -> AffineTransform:
        linear = init.normal(output_dim, input_dim, stddev=given["<ParamStddev>"])
        bias = uniform(init, output_dim, mean=given["<BiasMean>"], width=given["<BiasRange>"])
        dims = {"input_dim": input_dim, "output_dim": output_dim}
        return cls(linear=linear, bias=bias, **dims, **given.fields)

    def check(self) -> None:
        super().check()
        check_shape(self, "linear", self.output_dim, self.input_dim)
        check_shape(self, "bias", self.output_dim)

    def forward(self, rows: Rows) -> Rows:
        return affine(rows, self.linear, self.bias)


@TYPES.register("LinearTransform")
@dataclass(kw_only=True, eq=False)
class LinearTransform(Nnet1Component):
    """y = linear x."""

    settings: ClassVar[tuple[Setting, ...]] = (
        *DIMS,
        PARAM_STDDEV,
        Setting("<ReadMatrix>", Kind.TEXT, "file with the matrix"),
    )
    line_ends: ClassVar[tuple[str, ...]] = ("learn_rate",)

    learn_rate: float = learn_rate_field()
    linear: np.ndarray = array(Kind.MATRIX, "matrix (output_dim, input_dim)")

    @classmethod
    def initial(
        cls, input_dim: int, output_dim: int, given: Given, init: Initializer
    ) -> LinearTransform:
        if given["<ReadMatrix>"] is not None:
            linear = init.read_matrix(given["<ReadMatrix>"])
        else:
            linear = init.normal(output_dim, input_dim, stddev=given["<ParamStddev>"])
        return cls(input_dim=input_dim, output_dim=output_dim, linear=linear, **given.fields)

    def check(self) -> None:
        super().check()
        check_shape(self, "linear", self.output_dim, self.input_dim)

    def forward(self, rows: Rows) -> Rows:
        return affine(rows, self.linear)


UNIT_TYPES = {"bern": "bern", "Bernoulli": "bern", "gauss": "gauss", "Gaussian": "gauss"}
"""Names of the kinds of units in prototypes, and in files."""

_UNITS = Check("bern or gauss", lambda value: value in ("bern", "gauss"))


def _units_field(doc: str) -> Any:
    return stored(Kind.TEXT, None, doc, check=_UNITS)


@TYPES.register("Rbm")
@dataclass(kw_only=True, eq=False)
class Rbm(Nnet1Component):
    """A restricted Boltzmann machine, from visible units to the means of hidden ones."""

    settings: ClassVar[tuple[Setting, ...]] = (
        *DIMS,
        Setting("<VisibleType>", Kind.TEXT, "kind of the visible units"),
        Setting("<HiddenType>", Kind.TEXT, "kind of the hidden units"),
        Setting("<VisibleBiasMean>", Kind.REAL, "mean of the visible bias", 0.0),
        Setting("<VisibleBiasRange>", Kind.REAL, "width of its distribution", 0.0),
        Setting("<HiddenBiasMean>", Kind.REAL, "mean of the hidden bias", 0.0),
        Setting("<HiddenBiasRange>", Kind.REAL, "width of its distribution", 0.0),
        PARAM_STDDEV,
        Setting("<VisibleBiasCmvnFilename>", Kind.TEXT, "network whose AddShift has the means"),
    )

    visible: str = _units_field("kind of the visible units")
    hidden: str = _units_field("kind of the hidden units")
    linear: np.ndarray = array(Kind.MATRIX, "matrix (output_dim, input_dim)")
    visible_bias: np.ndarray = array(Kind.VECTOR, "bias of the visible units (input_dim,)")
    bias: np.ndarray = array(Kind.VECTOR, "bias of the hidden units (output_dim,)")

    @classmethod
    def initial(cls, input_dim: int, output_dim: int, given: Given, init: Initializer) -> Rbm:
        linear = init.normal(output_dim, input_dim, stddev=given["<ParamStddev>"])
        hidden_mean, hidden_range = given["<HiddenBiasMean>"], given["<HiddenBiasRange>"]
        visible_mean, visible_range = given["<VisibleBiasMean>"], given["<VisibleBiasRange>"]
        visible_bias = uniform(init, input_dim, mean=visible_mean, width=visible_range)
        if given["<VisibleBiasCmvnFilename>"] is not None:
            visible_bias = logits_of_means(given["<VisibleBiasCmvnFilename>"])
        return cls(
            input_dim=input_dim,
            output_dim=output_dim,
            visible=_units(given, "<VisibleType>"),
            hidden=_units(given, "<HiddenType>"),
            linear=linear,
            visible_bias=visible_bias,
            bias=uniform(init, output_dim, mean=hidden_mean, width=hidden_range),
        )

    def check(self) -> None:
        super().check()
        check_shape(self, "linear", self.output_dim, self.input_dim)
        check_shape(self, "visible_bias", self.input_dim)
        check_shape(self, "bias", self.output_dim)

    def forward(self, rows: Rows) -> Rows:
        activations = affine(rows, self.linear, self.bias)
        return sigmoid(activations) if self.hidden == "bern" else activations


def logits_of_means(filename: str) -> np.ndarray:
    """The visible bias of units whose means a network's first component subtracts."""
    first = read_network(filename)[0]
    if not isinstance(first, AddShift):
        raise NnetError(f"{filename}: the first component is {first.type_name}, expected AddShift")
    means = np.clip(-first.values, 0.0001, 0.9999)
    return np.log(means) - np.log(1.0 - means)


def _units(given: Given, token: str) -> str:
    if given[token] not in UNIT_TYPES:
        raise FieldError(token, f"{token} (={given[token]}) must be one of {', '.join(UNIT_TYPES)}")
    return UNIT_TYPES[given[token]]


@TYPES.register("KlHmm")
@dataclass(kw_only=True, eq=False)
class KlHmm(Nnet1Component):
    """Negative Kullback-Leibler divergence between posteriors and each state's distribution."""

    statistics: np.ndarray = stored(
        Kind.DOUBLE_MATRIX, None, "sums of posteriors (output_dim, input_dim)"
    )

    def check(self) -> None:
        super().check()
        check_shape(self, "statistics", self.output_dim, self.input_dim)

    def forward(self, rows: Rows) -> Rows:
        smallest = 1e-20
        totals = np.maximum(self.statistics.sum(axis=1, keepdims=True), smallest)
        log_states = np.log(np.maximum(self.statistics / totals, smallest))
        entropy = (rows * np.log(np.maximum(rows, smallest))).sum(axis=1, keepdims=True)
        return rows @ log_states.T - entropy
