"""Affine components: a trained matrix, and mostly a trained bias."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnet.components.base import Updatable, check_length
from nnet.components.field import (
    NOT_NEGATIVE,
    POSITIVE,
    REQUIRED,
    Check,
    FieldError,
    Kind,
    Old,
    Presence,
    Role,
    Setting,
    stored,
)
from nnet.components.registry import register
from nnet.components.summary import matrix_norms, mean_stddev

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer

INPUT_DIM = Setting(
    "input-dim", Kind.INTEGER, "number of columns read", REQUIRED, POSITIVE, unless="matrix"
)
OUTPUT_DIM = Setting(
    "output-dim", Kind.INTEGER, "number of columns made", REQUIRED, POSITIVE, unless="matrix"
)
PARAM_STDDEV = Setting(
    "param-stddev",
    Kind.REAL,
    "standard deviation of the initial matrix, by default 1/sqrt(columns of the matrix)",
    check=NOT_NEGATIVE,
    unless="matrix",
)
BIAS_STDDEV = Setting(
    "bias-stddev",
    Kind.REAL,
    "standard deviation of the initial bias",
    default=1.0,
    check=NOT_NEGATIVE,
    unless="matrix",
)
BIAS_MEAN = Setting(
    "bias-mean", Kind.REAL, "mean of the initial bias", default=0.0, unless="matrix"
)
HISTORY = Check("above 0 and below 1000000", lambda value: 0 < value < 1e6)


def matrix_setting(content: str, hint: str | None = None) -> Setting:
    """The key of a matrix file.

    Args:
        content: what the matrix consists of.
        hint: what to do when it cannot be read.
    """
    return Setting("matrix", Kind.TEXT, f"file with the initial parameters, {content}", hint=hint)


def default_rank_in(component: Any) -> int:
    """nnet3's rank of the natural gradient's factor on the input side."""
    return min(20, (component.linear.shape[1] + 1) // 2)


def default_rank_out(component: Any) -> int:
    """nnet3's rank of the natural gradient's factor on the output side."""
    return min(80, (component.linear.shape[0] + 1) // 2)


def linear_field(token: str, info_name: str) -> Any:
    """The trained matrix (output_dim, input_dim)."""
    return stored(
        Kind.MATRIX,
        token,
        "matrix (output_dim, input_dim)",
        role=Role.PARAMETER,
        info=lambda c: matrix_norms(info_name, c.linear),
    )


def orthonormal_field() -> Any:
    return stored(
        Kind.REAL,
        "<OrthonormalConstraint>",
        "keeps the matrix a multiple of a semi-orthogonal one: the multiple, or negative for a "
        "floating one (Povey et al., Interspeech 2018), or 0 for no constraint",
        key="orthonormal-constraint",
        default=0.0,
        presence=Presence.NONDEFAULT,
        shown=False,
    )


def rank_field(token: str | None, side: str) -> Any:
    return stored(
        Kind.INTEGER,
        token,
        f"rank of the natural gradient on the {side} side (Povey et al., ICLR 2015)",
        key="rank-in" if side == "input" else "rank-out",
        default=default_rank_in if side == "input" else default_rank_out,
        unset=-1,
        check=POSITIVE,
    )


def update_period_field(default: int = 4) -> Any:
    return stored(
        Kind.INTEGER,
        "<UpdatePeriod>",
        "minibatches between updates of the natural gradient's factors",
        key="update-period",
        default=default,
        check=POSITIVE,
    )


def history_field() -> Any:
    return stored(
        Kind.REAL,
        "<NumSamplesHistory>",
        "frames over which the natural gradient averages",
        key="num-samples-history",
        default=2000.0,
        check=HISTORY,
    )


def alpha_field(token: str | None = "<Alpha>", key: str = "alpha") -> Any:
    return stored(
        Kind.REAL,
        token,
        "smoothing of the natural gradient's factors with the identity",
        key=key,
        default=4.0,
        check=NOT_NEGATIVE,
    )


def check_dims(given: Given, linear: np.ndarray) -> None:
    """Raises FieldError if a matrix from a file has other dimensions than the line says."""
    for key, found in (("input-dim", linear.shape[1]), ("output-dim", linear.shape[0])):
        if given[key] is not REQUIRED and given[key] != found:
            raise FieldError(key, f"{key} (={given[key]}) differs from the matrix's ({found})")


def initial_linear(given: Given, init: Initializer) -> np.ndarray:
    """A random matrix (output_dim, input_dim)."""
    input_dim, output_dim = given["input-dim"], given["output-dim"]
    stddev = given["param-stddev"]
    stddev = 1.0 / math.sqrt(input_dim) if stddev is None else stddev
    return init.normal(output_dim, input_dim, stddev=stddev)


def affine_from_file(given: Given, init: Initializer) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and bias from a file whose last column is the bias."""
    matrix = init.read_matrix(given["matrix"])
    if matrix.shape[0] < 1 or matrix.shape[1] < 2:
        raise FieldError(
            "matrix",
            f"the matrix is {matrix.shape[0]} x {matrix.shape[1]}; its last column is the bias, "
            "so it needs two columns at least",
        )
    linear, bias = matrix[:, :-1].copy(), matrix[:, -1].copy()
    check_dims(given, linear)
    return linear, bias


@register("AffineComponent")
@dataclass(kw_only=True, eq=False)
class Affine(Updatable):
    """y = linear x + bias."""

    settings: ClassVar[tuple[Setting, ...]] = (
        matrix_setting("linear and bias side by side"),
        INPUT_DIM,
        OUTPUT_DIM,
        PARAM_STDDEV,
        BIAS_STDDEV,
    )
    info_order: ClassVar[tuple[str, ...]] = (
        *Updatable.info_order,
        "orthonormal_constraint",
        "linear",
        "bias",
    )

    linear: np.ndarray = linear_field("<LinearParams>", "linear-params")
    bias: np.ndarray = stored(
        Kind.VECTOR,
        "<BiasParams>",
        "bias (output_dim,)",
        role=Role.PARAMETER,
        info=lambda c: mean_stddev("bias", c.bias),
    )
    old_is_gradient = Old("<IsGradient>", Kind.BOOLEAN, sets=("is_gradient",))
    orthonormal_constraint: float = orthonormal_field()

    @classmethod
    def create(cls, given: Given, init: Initializer) -> Affine:
        if given["matrix"] is not None:
            linear, bias = affine_from_file(given, init)
        else:
            linear = initial_linear(given, init)
            mean = given.settings.get("bias-mean", 0.0)
            bias = init.normal(given["output-dim"], stddev=given["bias-stddev"], mean=mean)
        return cls(linear=linear, bias=bias, **given.fields)

    @property
    def input_dim(self) -> int:
        return int(self.linear.shape[1])

    @property
    def output_dim(self) -> int:
        return int(self.linear.shape[0])

    def check(self) -> None:
        super().check()
        if self.linear.size == 0:
            raise FieldError("linear", "the matrix is empty")
        check_length(self, "bias", self.output_dim, "one for each row of the matrix")


@register("NaturalGradientAffineComponent")
@dataclass(kw_only=True, eq=False)
class NaturalGradientAffine(Affine):
    """y = linear x + bias, trained with natural gradient."""

    settings: ClassVar[tuple[Setting, ...]] = (*Affine.settings, BIAS_MEAN)
    info_order: ClassVar[tuple[str, ...]] = (
        *Affine.info_order,
        "rank_in",
        "rank_out",
        "num_samples_history",
        "update_period",
        "alpha",
    )

    rank_in: int = rank_field("<RankIn>", "input")
    rank_out: int = rank_field("<RankOut>", "output")
    orthonormal_constraint: float = orthonormal_field()
    update_period: int = update_period_field()
    num_samples_history: float = history_field()
    alpha: float = alpha_field()
    old_max_change = Old("<MaxChangePerSample>", Kind.REAL)
    old_is_gradient = Old("<IsGradient>", Kind.BOOLEAN, sets=("is_gradient",))
    old_update_count = Old("<UpdateCount>", Kind.DOUBLE)
    old_active_scaling_count = Old("<ActiveScalingCount>", Kind.DOUBLE)
    old_max_change_scale_stats = Old("<MaxChangeScaleStats>", Kind.DOUBLE)


@register("LinearComponent")
@dataclass(kw_only=True, eq=False)
class Linear(Updatable):
    """y = linear x, trained with natural gradient unless `use_natural_gradient` is off."""

    settings: ClassVar[tuple[Setting, ...]] = (
        matrix_setting("linear"),
        INPUT_DIM,
        OUTPUT_DIM,
        PARAM_STDDEV,
    )
    info_order: ClassVar[tuple[str, ...]] = (
        *Updatable.info_order,
        "linear",
        "orthonormal_constraint",
        "use_natural_gradient",
        "rank_in",
        "rank_out",
        "num_samples_history",
        "update_period",
        "alpha",
    )

    linear: np.ndarray = linear_field("<Params>", "params")
    orthonormal_constraint: float = orthonormal_field()
    use_natural_gradient: bool = stored(
        Kind.BOOLEAN,
        "<UseNaturalGradient>",
        "train with natural gradient",
        key="use-natural-gradient",
        default=True,
    )
    rank_in: int = rank_field("<RankInOut>", "input")
    rank_out: int = rank_field(None, "output")
    alpha: float = alpha_field()
    num_samples_history: float = history_field()
    update_period: int = update_period_field()

    @classmethod
    def create(cls, given: Given, init: Initializer) -> Linear:
        if given["matrix"] is not None:
            linear = init.read_matrix(given["matrix"])
            check_dims(given, linear)
        else:
            linear = initial_linear(given, init)
        return cls(linear=linear, **given.fields)

    @property
    def bias(self) -> None:
        """A linear component has no bias."""
        return None

    @property
    def input_dim(self) -> int:
        return int(self.linear.shape[1])

    @property
    def output_dim(self) -> int:
        return int(self.linear.shape[0])

    def check(self) -> None:
        super().check()
        if self.linear.size == 0:
            raise FieldError("linear", "the matrix is empty")
