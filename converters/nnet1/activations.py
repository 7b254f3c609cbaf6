"""Nonlinearities of nnet1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from nnet.components.field import Check, FieldError, Kind, Old, Presence, Setting, stored
from nnet.converters import reference
from nnet.converters.legacy import Rows, check_shape
from nnet.converters.nnet1.base import (
    DIMS,
    TYPES,
    Nnet1Component,
    SameDim,
    array,
    coefficient,
    constant,
)

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer


@TYPES.register("Softmax")
class Softmax(SameDim):
    """y = exp(x) / sum(exp(x))."""

    def forward(self, rows: Rows) -> Rows:
        return reference.softmax(rows)


@TYPES.register("HiddenSoftmax")
class HiddenSoftmax(Softmax):
    """Softmax with its own derivative, for hidden layers."""


@TYPES.register("BlockSoftmax")
@dataclass(kw_only=True, eq=False)
class BlockSoftmax(Nnet1Component):
    """Softmax of each block of columns; block i has `block_dims[i]` columns."""

    block_dims: tuple[int, ...] = stored(
        Kind.INTEGERS,
        None,
        "columns of each block",
        key="<BlockDims>",
        check=Check("positive integers", lambda value: len(value) > 0 and min(value) > 0),
    )

    def check(self) -> None:
        super().check()
        if not sum(self.block_dims) == self.input_dim == self.output_dim:
            raise FieldError(
                "block-dims",
                f"block-dims add up to {sum(self.block_dims)}, expected input-dim "
                f"(={self.input_dim}) and output-dim (={self.output_dim})",
            )

    def forward(self, rows: Rows) -> Rows:
        blocks = np.split(rows, np.cumsum(self.block_dims)[:-1], axis=1)
        return np.concatenate([reference.softmax(block) for block in blocks], axis=1)


@TYPES.register("Sigmoid")
class Sigmoid(SameDim):
    """y = 1 / (1 + exp(-x))."""

    def forward(self, rows: Rows) -> Rows:
        return reference.sigmoid(rows)


@TYPES.register("Tanh")
class Tanh(SameDim):
    """y = tanh(x)."""

    def forward(self, rows: Rows) -> Rows:
        return np.tanh(rows)


@TYPES.register("ParametricRelu")
@dataclass(kw_only=True, eq=False)
class ParametricRelu(SameDim):
    """y = alpha x where x >= 0, else beta x."""

    settings: ClassVar[tuple[Setting, ...]] = (
        *DIMS,
        Setting("<Alpha>", Kind.REAL, "initial slope above 0", 1.0),
        Setting("<Beta>", Kind.REAL, "initial slope below 0", 0.0),
    )
    line_ends: ClassVar[tuple[str, ...]] = ("beta_learn_rate",)

    alpha_learn_rate: float = coefficient(
        "<AlphaLearnRateCoef>", "factor of alpha's learning rate", 0.0
    )
    beta_learn_rate: float = coefficient(
        "<BetaLearnRateCoef>", "factor of beta's learning rate", 0.0
    )
    alpha: np.ndarray = array(Kind.VECTOR, "slopes above 0 (dim,)")
    beta: np.ndarray = array(Kind.VECTOR, "slopes below 0 (dim,)")

    @classmethod
    def initial(
        cls, input_dim: int, output_dim: int, given: Given, init: Initializer
    ) -> ParametricRelu:
        return cls(
            input_dim=input_dim,
            output_dim=output_dim,
            alpha=constant(output_dim, given["<Alpha>"]),
            beta=constant(output_dim, given["<Beta>"]),
            **given.fields,
        )

    def check(self) -> None:
        super().check()
        check_shape(self, "alpha", self.output_dim)
        check_shape(self, "beta", self.output_dim)

    def forward(self, rows: Rows) -> Rows:
        return rows * np.where(rows >= 0, self.alpha, self.beta)


@TYPES.register("Dropout")
@dataclass(kw_only=True, eq=False)
class Dropout(SameDim):
    """Zeroes a share of the elements while training, and scales the others up."""

    rate: float = stored(
        Kind.REAL,
        "<DropoutRate>",
        "share of the elements that is zeroed",
        key="<DropoutRate>",
        default=0.5,
        check=Check("at least 0 and below 1", lambda value: 0 <= value < 1),
        presence=Presence.SINCE,
    )
    old_retention = Old("<DropoutRetention>", Kind.REAL, sets=("retention",))
    retention: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.retention is not None:
            self.rate = 1.0 - self.retention

    def forward(self, rows: Rows) -> Rows:
        return rows


@TYPES.register("LengthNormComponent")
class LengthNorm(SameDim):
    """Scales each row to a 2-norm of 1."""

    def forward(self, rows: Rows) -> Rows:
        with np.errstate(all="ignore"):  # nnet1 divides by zero, too
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)
