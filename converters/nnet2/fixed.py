"""Components of nnet2 whose numbers are given and not trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnet.components.field import REQUIRED, FieldError, Kind, Role, Setting, stored
from nnet.converters.legacy import Rows, check_shape
from nnet.converters.nnet2.base import TYPES, Nnet2Component
from nnet.converters.reference import affine

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer


def _fixed(kind: Kind, token: str, doc: str) -> Any:
    return stored(kind, token, doc, role=Role.FIXED)


def _file(key: str, doc: str) -> tuple[Setting, ...]:
    return (Setting(key, Kind.TEXT, doc, REQUIRED),)


@dataclass(kw_only=True, eq=False)
class FixedMatrix(Nnet2Component):
    """A component with a given matrix `linear` (output_dim, input_dim)."""

    settings: ClassVar[tuple[Setting, ...]] = _file("matrix", "file with the matrix")

    linear: np.ndarray

    @property
    def input_dim(self) -> int:
        return int(self.linear.shape[1])

    @property
    def output_dim(self) -> int:
        return int(self.linear.shape[0])

    def check(self) -> None:
        super().check()
        if self.linear.size == 0:
            raise FieldError("matrix", "the matrix is empty")


@TYPES.register("FixedLinearComponent")
@dataclass(kw_only=True, eq=False)
class FixedLinear(FixedMatrix):
    """y = linear x."""

    linear: np.ndarray = _fixed(Kind.MATRIX, "<CuMatrix>", "matrix (output_dim, input_dim)")

    @classmethod
    def create(cls, given: Given, init: Initializer) -> FixedLinear:
        return cls(linear=init.read_matrix(given["matrix"]))

    def forward(self, rows: Rows) -> Rows:
        return affine(rows, self.linear)


@TYPES.register("FixedAffineComponent")
@dataclass(kw_only=True, eq=False)
class FixedAffine(FixedMatrix):
    """y = linear x + bias."""

    linear: np.ndarray = _fixed(Kind.MATRIX, "<LinearParams>", "matrix (output_dim, input_dim)")
    bias: np.ndarray = _fixed(Kind.VECTOR, "<BiasParams>", "bias (output_dim,)")

    @classmethod
    def create(cls, given: Given, init: Initializer) -> FixedAffine:
        matrix = init.read_matrix(given["matrix"])
        if matrix.shape[1] < 2:
            raise FieldError(
                "matrix", "the matrix needs two columns at least; the last is the bias"
            )
        return cls(linear=matrix[:, :-1].copy(), bias=matrix[:, -1].copy())

    def check(self) -> None:
        super().check()
        check_shape(self, "bias", self.output_dim)

    def forward(self, rows: Rows) -> Rows:
        return affine(rows, self.linear, self.bias)


@dataclass(kw_only=True, eq=False)
class FixedVector(Nnet2Component):
    """A component with a given number for each column."""

    array: ClassVar[str]

    @classmethod
    def create(cls, given: Given, init: Initializer) -> FixedVector:
        return cls(**{cls.array: init.read_vector(given[cls.array])})

    @property
    def input_dim(self) -> int:
        return int(getattr(self, self.array).size)

    @property
    def output_dim(self) -> int:
        return self.input_dim

    def check(self) -> None:
        super().check()
        if self.input_dim == 0:
            raise FieldError(self.array, "the vector is empty")


@TYPES.register("FixedScaleComponent")
@dataclass(kw_only=True, eq=False)
class FixedScale(FixedVector):
    """Multiplies each column by a given number."""

    array: ClassVar[str] = "scales"
    settings: ClassVar[tuple[Setting, ...]] = _file("scales", "file with the vector of scales")

    scales: np.ndarray = _fixed(Kind.VECTOR, "<Scales>", "scales (dim,)")

    def forward(self, rows: Rows) -> Rows:
        return rows * self.scales


@TYPES.register("FixedBiasComponent")
@dataclass(kw_only=True, eq=False)
class FixedBias(FixedVector):
    """Adds a given number to each column."""

    array: ClassVar[str] = "bias"
    settings: ClassVar[tuple[Setting, ...]] = _file("bias", "file with the vector to add")

    bias: np.ndarray = _fixed(Kind.VECTOR, "<Bias>", "numbers to add (dim,)")

    def forward(self, rows: Rows) -> Rows:
        return rows + self.bias
