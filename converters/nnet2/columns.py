"""Components of nnet2 that pool, rearrange or transform columns, without parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from nnet.components.field import (
    NOT_NEGATIVE,
    POSITIVE,
    REQUIRED,
    Check,
    FieldError,
    Kind,
    Presence,
    Setting,
    stored,
)
from nnet.converters.legacy import Rows, check_divides
from nnet.converters.nnet2.base import TYPES, Nnet2Component
from nnet.converters.nnet2.nonlinear import SameDim, dim_field
from nnet.converters.reference import max_pool
from nnet.limits import LARGEST_DIM, above

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer

POSITIVE_INTEGERS = Check("positive integers", lambda value: len(value) > 0 and min(value) > 0)


@dataclass(kw_only=True, eq=False)
class Grouping(Nnet2Component):
    """A component that makes `output_dim` columns of as many groups of neighbouring columns."""

    input_dim: int = stored(
        Kind.INTEGER, "<InputDim>", "number of columns read", key="input-dim", check=POSITIVE
    )
    output_dim: int = stored(
        Kind.INTEGER, "<OutputDim>", "number of columns made", key="output-dim", check=POSITIVE
    )

    def check(self) -> None:
        super().check()
        check_divides(self.output_dim, self.input_dim, "input-dim / output-dim")

    @property
    def group(self) -> int:
        """Columns in a group."""
        return self.input_dim // self.output_dim

    def groups(self, rows: Rows) -> Rows:
        """`(frames, output_dim, group)`."""
        return rows.reshape(len(rows), self.output_dim, self.group)


@TYPES.register("MaxoutComponent")
class Maxout(Grouping):
    """The largest of each group."""

    def forward(self, rows: Rows) -> Rows:
        return self.groups(rows).max(axis=2)


@TYPES.register("PnormComponent")
@dataclass(kw_only=True, eq=False)
class Pnorm(Grouping):
    """The p-norm of each group; for p = 0 the number of its columns that are not 0."""

    p: float = stored(Kind.REAL, "<P>", "which norm", key="p", default=2.0, check=NOT_NEGATIVE)

    def forward(self, rows: Rows) -> Rows:
        return np.linalg.norm(self.groups(rows), ord=self.p, axis=2)


@TYPES.register("MaxpoolingComponent")
@dataclass(kw_only=True, eq=False)
class Maxpooling(Nnet2Component):
    """The largest of `pool_size` neighbouring blocks of `pool_stride` columns."""

    input_dim: int = stored(
        Kind.INTEGER, "<InputDim>", "number of columns read", key="input-dim", check=POSITIVE
    )
    output_dim: int = stored(
        Kind.INTEGER, "<OutputDim>", "number of columns made", key="output-dim", check=POSITIVE
    )
    pool_size: int = stored(
        Kind.INTEGER, "<PoolSize>", "blocks in a pool", key="pool-size", check=POSITIVE
    )
    pool_stride: int = stored(
        Kind.INTEGER, "<PoolStride>", "columns in a block", key="pool-stride", check=POSITIVE
    )

    def check(self) -> None:
        super().check()
        check_divides(self.pool_stride * self.pool_size, self.input_dim, "input-dim")
        if self.output_dim != self.input_dim // self.pool_size:
            raise FieldError(
                "output-dim",
                f"output-dim (={self.output_dim}) must be input-dim / pool-size "
                f"(={self.input_dim // self.pool_size})",
            )

    def forward(self, rows: Rows) -> Rows:
        return max_pool(rows, self.pool_size, self.pool_size, self.pool_stride)


@TYPES.register("SumGroupComponent")
@dataclass(kw_only=True, eq=False)
class SumGroup(Nnet2Component):
    """Sums groups of neighbouring columns; group i has `sizes[i]` columns."""

    sizes: tuple[int, ...] = stored(
        Kind.INTEGERS, "<Sizes>", "columns of each group", key="sizes", check=POSITIVE_INTEGERS
    )

    @property
    def input_dim(self) -> int:
        return sum(self.sizes)

    @property
    def output_dim(self) -> int:
        return len(self.sizes)

    def forward(self, rows: Rows) -> Rows:
        starts = np.cumsum((0, *self.sizes[:-1]))
        return np.add.reduceat(rows, starts, axis=1)


def _is_permutation(columns: tuple[int, ...]) -> bool:
    return len(columns) > 0 and sorted(columns) == list(range(len(columns)))


@TYPES.register("PermuteComponent")
@dataclass(kw_only=True, eq=False)
class Permute(Nnet2Component):
    """Column i of the input becomes column `reorder[i]` of the output."""

    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("dim", Kind.INTEGER, "number of columns", REQUIRED, POSITIVE),
    )

    reorder: tuple[int, ...] = stored(
        Kind.INTEGERS,
        "<Reorder>",
        "the output column of each input column",
        check=Check("a permutation of 0, 1, ...", _is_permutation),
    )

    @classmethod
    def create(cls, given: Given, init: Initializer) -> Permute:
        if given["dim"] > LARGEST_DIM:
            raise FieldError("dim", above("dim", given["dim"], LARGEST_DIM))
        order = np.arange(given["dim"])
        if init.rng is not None:
            init.rng.shuffle(order)
        return cls(reorder=tuple(order.tolist()))

    @property
    def input_dim(self) -> int:
        return len(self.reorder)

    @property
    def output_dim(self) -> int:
        return len(self.reorder)

    @property
    def column_map(self) -> tuple[int, ...]:
        """The input column of each output column."""
        return tuple(np.argsort(self.reorder).tolist())

    def forward(self, rows: Rows) -> Rows:
        return rows[:, self.column_map]


@TYPES.register("DctComponent")
@dataclass(kw_only=True, eq=False)
class Dct(SameDim):
    """The first `dct_keep_dim` terms of the discrete cosine transform of parts of a row.

    The parts are blocks of `dct_dim` neighbouring columns, or with `reorder` interlaced ones.
    """

    dim: int = dim_field("number of columns read")
    dct_dim: int = stored(
        Kind.INTEGER, "<DctDim>", "columns of a part", key="dct-dim", check=POSITIVE
    )
    reorder: bool = stored(
        Kind.BOOLEAN, "<Reorder>", "whether the parts are interlaced", key="reorder"
    )
    dct_keep_dim: int = stored(
        Kind.INTEGER,
        "<DctKeepDim>",
        "terms that are kept of each part",
        key="dct-keep-dim",
        default=lambda component: component.dct_dim,
        unset=0,
        check=POSITIVE,
        presence=Presence.SINCE,
    )

    def check(self) -> None:
        super().check()
        check_divides(self.dct_dim, self.dim, "dim / dct-dim")
        if self.dct_keep_dim > self.dct_dim:
            raise FieldError(
                "dct-keep-dim",
                f"dct-keep-dim (={self.dct_keep_dim}) must be dct-dim (={self.dct_dim}) at most",
            )

    @property
    def parts(self) -> int:
        return self.dim // self.dct_dim

    @property
    def output_dim(self) -> int:
        return self.parts * self.dct_keep_dim

    def matrix(self) -> np.ndarray:
        """The transform of one part, float32 (dct_keep_dim, dct_dim)."""
        terms, columns = np.arange(self.dct_keep_dim)[:, None], np.arange(self.dct_dim)
        waves = np.cos(np.pi / self.dct_dim * (columns + 0.5) * terms)
        waves *= np.sqrt(2.0 / self.dct_dim)
        waves[0] = np.sqrt(1.0 / self.dct_dim)
        return waves.astype(np.float32)

    def forward(self, rows: Rows) -> Rows:
        frames, parts, keep = len(rows), self.parts, self.dct_keep_dim
        if self.reorder:  # only `keep` of a part's columns are moved: nnet2 leaves zeros behind
            moved = np.zeros_like(rows)
            used = rows[:, : keep * parts].reshape(frames, keep, parts)
            moved[:, : keep * parts] = used.swapaxes(1, 2).reshape(frames, -1)
            rows = moved
        result = rows.reshape(frames, parts, self.dct_dim) @ self.matrix().T.astype(np.float64)
        if self.reorder:
            result = result.swapaxes(1, 2)
        return result.reshape(frames, -1)
