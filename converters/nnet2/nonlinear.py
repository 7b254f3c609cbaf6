"""Nonlinearities of nnet2 that work column by column or on whole rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnet.components.field import (
    NOT_NEGATIVE,
    POSITIVE,
    REQUIRED,
    Check,
    FieldError,
    Kind,
    Repeated,
    Role,
    Setting,
    stored,
)
from nnet.converters import reference
from nnet.converters.legacy import Rows
from nnet.converters.nnet2.base import TYPES, Nnet2Component

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer

SMALLEST_PROBABILITY = 1e-20


def dim_field(doc: str = "number of columns") -> Any:
    return stored(Kind.INTEGER, "<Dim>", doc, key="dim", check=POSITIVE)


@dataclass(kw_only=True, eq=False)
class SameDim(Nnet2Component):
    """A component whose output has as many columns as its input."""

    dim: int = dim_field()

    @property
    def input_dim(self) -> int:
        return self.dim

    @property
    def output_dim(self) -> int:
        return self.dim


def _sum_field(token: str, doc: str) -> Any:
    return stored(
        Kind.VECTOR,
        token,
        doc,
        default=lambda component: np.zeros(0, np.float32),
        role=Role.COUNT,
    )


@dataclass(kw_only=True, eq=False)
class Nonlinearity(SameDim):
    """A function of `dim` columns with sums of its values and derivatives over frames."""

    value_sum: np.ndarray = _sum_field("<ValueSum>", "sum of the outputs (dim,), or empty")
    deriv_sum: np.ndarray = _sum_field("<DerivSum>", "sum of the derivatives (dim,), or empty")
    count: float = stored(
        Kind.DOUBLE, "<Count>", "frames in the sums", default=0.0, role=Role.COUNT
    )

    def check(self) -> None:
        super().check()
        for name in ("value_sum", "deriv_sum"):
            size = getattr(self, name).size
            if size not in (0, self.dim):
                key = name.replace("_", "-")
                raise FieldError(key, f"{key} has {size} elements, expected dim (={self.dim})")


@TYPES.register("SigmoidComponent")
class Sigmoid(Nonlinearity):
    """y = 1 / (1 + exp(-x))."""

    def forward(self, rows: Rows) -> Rows:
        return reference.sigmoid(rows)


@TYPES.register("TanhComponent")
class Tanh(Nonlinearity):
    """y = tanh(x)."""

    def forward(self, rows: Rows) -> Rows:
        return np.tanh(rows)


@TYPES.register("RectifiedLinearComponent")
class RectifiedLinear(Nonlinearity):
    """y = max(x, 0)."""

    def forward(self, rows: Rows) -> Rows:
        return np.maximum(rows, 0.0)


@TYPES.register("SoftHingeComponent")
class SoftHinge(Nonlinearity):
    """y = log(1 + exp(x))."""

    def forward(self, rows: Rows) -> Rows:
        return np.logaddexp(0.0, rows)


@TYPES.register("SoftmaxComponent")
class Softmax(Nonlinearity):
    """y = exp(x) / sum(exp(x)), floored at 1e-20."""

    def forward(self, rows: Rows) -> Rows:
        return np.maximum(reference.softmax(rows), SMALLEST_PROBABILITY)


@TYPES.register("LogSoftmaxComponent")
class LogSoftmax(Nonlinearity):
    """y = x - log(sum(exp(x))), floored at log(1e-20)."""

    def forward(self, rows: Rows) -> Rows:
        return np.maximum(reference.log_softmax(rows), np.log(SMALLEST_PROBABILITY))


@TYPES.register("NormalizeComponent")
class Normalize(Nonlinearity):
    """Scales each row to a root mean square of 1."""

    def forward(self, rows: Rows) -> Rows:
        mean_square = (rows**2).mean(axis=1, keepdims=True)
        return rows / np.sqrt(np.maximum(mean_square, reference.SQUARED_NORM_FLOOR))


@TYPES.register("PowerComponent")
@dataclass(kw_only=True, eq=False)
class Power(Nnet2Component):
    """y = |x| ** power."""

    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("dim", Kind.INTEGER, "number of columns", REQUIRED, POSITIVE, unless="input-dim"),
        Setting("input-dim", Kind.INTEGER, "another name of dim", None, POSITIVE),
    )

    input_dim: int = stored(Kind.INTEGER, "<InputDim>", "number of columns", check=POSITIVE)
    input_dim_again = Repeated("<OutputDim>", Kind.INTEGER, "input_dim")
    power: float = stored(
        Kind.REAL, "<Power>", "the exponent", key="power", default=2.0, check=NOT_NEGATIVE
    )

    @classmethod
    def create(cls, given: Given, init: Initializer) -> Power:
        dim = given["input-dim"] if given["dim"] is REQUIRED else given["dim"]
        return cls(input_dim=dim, **given.fields)

    @property
    def output_dim(self) -> int:
        return self.input_dim

    def forward(self, rows: Rows) -> Rows:
        return np.abs(rows) ** self.power


@TYPES.register("ScaleComponent")
@dataclass(kw_only=True, eq=False)
class Scale(SameDim):
    """y = factor * x."""

    factor: float = stored(
        Kind.REAL,
        "<Scale>",
        "the factor",
        key="scale",
        check=Check("other than 0", lambda value: value != 0),
    )

    def forward(self, rows: Rows) -> Rows:
        return rows * self.factor
