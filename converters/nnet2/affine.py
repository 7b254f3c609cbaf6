"""Affine components of nnet2, of the whole row or of blocks of columns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from nnet.components.affine import (
    BIAS_STDDEV,
    INPUT_DIM,
    OUTPUT_DIM,
    PARAM_STDDEV,
    alpha_field,
    history_field,
    matrix_setting,
)
from nnet.components.field import (
    NOT_NEGATIVE,
    POSITIVE,
    REQUIRED,
    FieldError,
    Kind,
    Old,
    Presence,
    Role,
    Setting,
    single,
    stored,
)
from nnet.converters.legacy import Rows, check_divides, check_shape
from nnet.converters.nnet2.base import TYPES, Updatable, initial_affine
from nnet.converters.reference import affine

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer


def linear_field(token: str = "<LinearParams>") -> Any:
    return stored(Kind.MATRIX, token, "matrix (output_dim, input_dim)", role=Role.PARAMETER)


def bias_field() -> Any:
    return stored(Kind.VECTOR, "<BiasParams>", "bias (output_dim,)", role=Role.PARAMETER)


def gradient_field(presence: Presence = Presence.ALWAYS) -> Any:
    return stored(
        Kind.BOOLEAN,
        "<IsGradient>",
        "the parameters are a gradient, not a model",
        default=False,
        presence=presence,
    )


def _alpha_field(default: float) -> Any:
    return stored(
        Kind.REAL,
        "<Alpha>",
        "smoothing of the preconditioning matrices with the identity",
        key="alpha",
        default=default,
        check=NOT_NEGATIVE,
    )


@dataclass(kw_only=True, eq=False)
class AnyAffine(Updatable):
    """y = linear x + bias."""

    settings: ClassVar[tuple[Setting, ...]] = (
        matrix_setting("linear and bias side by side"),
        INPUT_DIM,
        OUTPUT_DIM,
        PARAM_STDDEV,
        BIAS_STDDEV,
    )

    linear: np.ndarray = linear_field()
    bias: np.ndarray = bias_field()

    @classmethod
    def create(cls, given: Given, init: Initializer) -> Self:
        linear, bias = initial_affine(given, init)
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
        check_shape(self, "bias", self.output_dim)

    def forward(self, rows: Rows) -> Rows:
        return affine(rows, self.linear, self.bias)


@TYPES.register("AffineComponent")
@dataclass(kw_only=True, eq=False)
class Affine(AnyAffine):
    """y = linear x + bias, trained with plain gradients."""

    old_avg_input = Old("<AvgInput>", Kind.VECTOR)
    old_avg_input_count = Old("<AvgInputCount>", Kind.REAL)
    is_gradient: bool = gradient_field(Presence.SINCE)


@TYPES.register("AffineComponentPreconditioned")
@dataclass(kw_only=True, eq=False)
class AffinePreconditioned(AnyAffine):
    """y = linear x + bias, trained with natural gradient estimated on each minibatch."""

    alpha: float = _alpha_field(single(0.1))
    max_change: float = stored(
        Kind.REAL,
        "<MaxChange>",
        "largest 2-norm of the change of the parameters in a minibatch; 0 for no limit",
        key="max-change",
        default=0.0,
        presence=Presence.SINCE,
    )


def _rank_field(token: str, key: str, default: int) -> Any:
    return stored(
        Kind.INTEGER,
        token,
        "rank of the natural gradient (Povey et al., ICLR 2015)",
        key=key,
        default=default,
        check=POSITIVE,
    )


@TYPES.register("AffineComponentPreconditionedOnline")
@dataclass(kw_only=True, eq=False)
class AffinePreconditionedOnline(AnyAffine):
    """y = linear x + bias, trained with online natural gradient."""

    old_rank = Old("<Rank>", Kind.INTEGER, sets=("rank_in", "rank_out"))
    rank_in: int = _rank_field("<RankIn>", "rank-in", 30)
    rank_out: int = _rank_field("<RankOut>", "rank-out", 80)
    update_period: int = stored(
        Kind.INTEGER,
        "<UpdatePeriod>",
        "minibatches between updates of the natural gradient's factors",
        key="update-period",
        default=1,
        check=POSITIVE,
        presence=Presence.SINCE,
    )
    num_samples_history: float = history_field()
    alpha: float = alpha_field()
    max_change_per_sample: float = stored(
        Kind.REAL,
        "<MaxChangePerSample>",
        "largest 2-norm of the change of the parameters that a frame may cause",
        key="max-change-per-sample",
        default=single(0.1),
        check=NOT_NEGATIVE,
    )


@TYPES.register("BlockAffineComponent")
@dataclass(kw_only=True, eq=False)
class BlockAffine(Updatable):
    """An affine map of each block of columns; `linear` is (output_dim, input_dim / num_blocks)."""

    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("input-dim", Kind.INTEGER, INPUT_DIM.doc, REQUIRED, POSITIVE),
        Setting("output-dim", Kind.INTEGER, OUTPUT_DIM.doc, REQUIRED, POSITIVE),
        Setting("param-stddev", Kind.REAL, PARAM_STDDEV.doc, check=NOT_NEGATIVE),
        Setting("bias-stddev", Kind.REAL, BIAS_STDDEV.doc, 1.0, NOT_NEGATIVE),
    )

    num_blocks: int = stored(
        Kind.INTEGER, "<NumBlocks>", "number of blocks", key="num-blocks", check=POSITIVE
    )
    linear: np.ndarray = linear_field()
    bias: np.ndarray = bias_field()

    @classmethod
    def create(cls, given: Given, init: Initializer) -> Self:
        blocks = given.fields["num_blocks"]
        input_dim, output_dim = given["input-dim"], given["output-dim"]
        check_divides(blocks, input_dim, "num-blocks")
        stddev = given["param-stddev"]
        stddev = 1.0 / math.sqrt(input_dim) if stddev is None else stddev
        linear = init.normal(output_dim, input_dim // blocks, stddev=stddev)
        bias = init.normal(output_dim, stddev=given["bias-stddev"])
        return cls(linear=linear, bias=bias, **given.fields)

    @property
    def input_dim(self) -> int:
        return int(self.linear.shape[1]) * self.num_blocks

    @property
    def output_dim(self) -> int:
        return int(self.linear.shape[0])

    def check(self) -> None:
        super().check()
        if self.linear.size == 0:
            raise FieldError("linear", "the matrix is empty")
        check_divides(self.num_blocks, self.output_dim, "num-blocks")
        check_shape(self, "bias", self.output_dim)

    def forward(self, rows: Rows) -> Rows:
        parts = np.split(rows, self.num_blocks, axis=1)
        matrices = np.split(self.linear, self.num_blocks)
        products = [affine(x, m) for x, m in zip(parts, matrices, strict=True)]
        return np.concatenate(products, axis=1) + self.bias


@TYPES.register("BlockAffineComponentPreconditioned")
@dataclass(kw_only=True, eq=False)
class BlockAffinePreconditioned(BlockAffine):
    """An affine map of each block of columns, trained with natural gradient."""

    alpha: float = _alpha_field(4.0)
    is_gradient: bool = gradient_field()
