"""Components of nnet1 that splice, select, shift or scale columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from nnet.components.field import FieldError, Kind, Setting, stored
from nnet.converters.legacy import Rows, check_shape
from nnet.converters.nnet1.base import (
    DIMS,
    TYPES,
    Nnet1Component,
    SameDim,
    array,
    constant,
    learn_rate_field,
)

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer

LARGEST_OFFSET = 10_000
INDEX_SETTINGS = (
    Setting("<ReadVector>", Kind.INTEGERS, "the integers"),
    Setting("<BuildVector>", Kind.INTEGERS, "the integers as ranges, such as 1:2:9"),
)


def given_integers(given: Given) -> tuple[int, ...]:
    """The integers of `<BuildVector>` or `<ReadVector>`."""
    return given["<BuildVector>"] or given["<ReadVector>"] or ()


@TYPES.register("Splice")
@dataclass(kw_only=True, eq=False)
class Splice(Nnet1Component):
    """Puts frames side by side; beyond the edges are the first and last frame."""

    settings: ClassVar[tuple[Setting, ...]] = (*DIMS, *INDEX_SETTINGS)

    offsets: tuple[int, ...] = stored(
        Kind.INTEGERS, None, "frames that are read, relative to the output frame"
    )

    @classmethod
    def initial(cls, input_dim: int, output_dim: int, given: Given, init: Initializer) -> Splice:
        return cls(input_dim=input_dim, output_dim=output_dim, offsets=given_integers(given))

    def check(self) -> None:
        super().check()
        if not self.offsets or len(self.offsets) * self.input_dim != self.output_dim:
            raise FieldError(
                "offsets",
                f"{len(self.offsets)} frames of {self.input_dim} columns do not make output-dim "
                f"(={self.output_dim})",
            )
        if max(map(abs, self.offsets)) > LARGEST_OFFSET:
            raise FieldError("offsets", f"frames further away than {LARGEST_OFFSET}")

    def forward(self, rows: Rows) -> Rows:
        times = np.arange(len(rows))
        read = [np.clip(times + offset, 0, len(rows) - 1) for offset in self.offsets]
        return np.concatenate([rows[index] for index in read], axis=1)


@TYPES.register("Copy")
@dataclass(kw_only=True, eq=False)
class Copy(Nnet1Component):
    """Output column i is input column `indices[i]`, counted from 1."""

    settings: ClassVar[tuple[Setting, ...]] = (*DIMS, *INDEX_SETTINGS)

    indices: tuple[int, ...] = stored(Kind.INTEGERS, None, "input columns, counted from 1")

    @classmethod
    def initial(cls, input_dim: int, output_dim: int, given: Given, init: Initializer) -> Copy:
        return cls(input_dim=input_dim, output_dim=output_dim, indices=given_integers(given))

    def check(self) -> None:
        super().check()
        if len(self.indices) != self.output_dim:
            raise FieldError(
                "indices", f"{len(self.indices)} indices, expected output-dim (={self.output_dim})"
            )
        if min(self.indices) < 1 or max(self.indices) > self.input_dim:
            raise FieldError(
                "indices", f"indices must be between 1 and input-dim (={self.input_dim})"
            )

    def forward(self, rows: Rows) -> Rows:
        return rows[:, np.subtract(self.indices, 1)]


@dataclass(kw_only=True, eq=False)
class ColumnWise(SameDim):
    """A component with a trained number for each column."""

    settings: ClassVar[tuple[Setting, ...]] = (
        *DIMS,
        Setting("<InitParam>", Kind.REAL, "all initial numbers", 0.0),
    )

    learn_rate: float = learn_rate_field()
    values: np.ndarray = array(Kind.VECTOR, "the numbers (dim,)")

    @classmethod
    def initial(cls, input_dim: int, output_dim: int, given: Given, init: Initializer) -> Self:
        values = constant(input_dim, given["<InitParam>"])
        return cls(input_dim=input_dim, output_dim=output_dim, values=values, **given.fields)

    def check(self) -> None:
        super().check()
        check_shape(self, "values", self.input_dim)


@TYPES.register("AddShift")
class AddShift(ColumnWise):
    """Adds a number to each column."""

    def forward(self, rows: Rows) -> Rows:
        return rows + self.values


@TYPES.register("Rescale")
class Rescale(ColumnWise):
    """Multiplies each column by a number."""

    def forward(self, rows: Rows) -> Rows:
        return rows * self.values
