"""Normalization: of each row by its own size, and of each column by statistics over frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnet.components.base import Component, check_length, check_multiple, recounted_average
from nnet.components.field import (
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
from nnet.components.registry import register
from nnet.components.summary import summarize_vector

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer


@register("NormalizeComponent")
@dataclass(kw_only=True, eq=False)
class Normalize(Component):
    """Scales each block of a row to the root mean square `target_rms`.

    With `add_log_stddev`, the log of each block's root mean square is one more column of it.
    """

    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("dim", Kind.INTEGER, "number of columns read", REQUIRED, POSITIVE, "input-dim"),
        Setting("input-dim", Kind.INTEGER, "another name of dim", None, POSITIVE),
    )
    info_order: ClassVar[tuple[str, ...]] = (
        *Component.info_order,
        "target_rms",
        "add_log_stddev",
        "block_dim",
    )

    old_dim = Old("<Dim>", Kind.INTEGER, sets=("dim",))
    dim: int = stored(Kind.INTEGER, "<InputDim>", "number of columns read", check=POSITIVE)
    block_dim: int = stored(
        Kind.INTEGER,
        "<BlockDim>",
        "columns a block; each block is normalized by itself",
        key="block-dim",
        default=lambda c: c.dim,
        check=POSITIVE,
        presence=Presence.NONDEFAULT,
        shown=False,
    )
    target_rms: float = stored(
        Kind.REAL,
        "<TargetRms>",
        "root mean square of the output",
        key="target-rms",
        default=1.0,
        check=POSITIVE,
        presence=Presence.SINCE,
    )
    add_log_stddev: bool = stored(
        Kind.BOOLEAN,
        "<AddLogStddev>",
        "whether the log of the input's root mean square is one more output column",
        key="add-log-stddev",
        default=False,
        presence=Presence.SINCE,
    )
    old_value_avg = Old("<ValueAvg>", Kind.VECTOR)
    old_deriv_avg = Old("<DerivAvg>", Kind.VECTOR)
    old_count = Old("<Count>", Kind.DOUBLE)

    @classmethod
    def create(cls, given: Given, init: Initializer) -> Normalize:
        dim, other = given["dim"], given["input-dim"]
        if dim is REQUIRED:
            dim = other
        elif other is not None and other != dim:
            raise FieldError("input-dim", f"input-dim (={other}) differs from dim (={dim})")
        return cls(dim=dim, **given.fields)

    @property
    def input_dim(self) -> int:
        return self.dim

    @property
    def output_dim(self) -> int:
        return self.dim + (self.dim // self.block_dim if self.add_log_stddev else 0)

    def check(self) -> None:
        super().check()
        check_multiple(self, "dim", "block_dim")


def _zeros(component: Any) -> np.ndarray:
    return np.zeros(component.block_dim, np.float32)


@register("BatchNormComponent")
@dataclass(kw_only=True, eq=False)
class BatchNorm(Component):
    """Normalizes each column to mean 0 and standard deviation `target_rms`.

    In training over the rows of a minibatch; in test mode with `stats_mean` and `stats_var`.
    """

    averaged_over: ClassVar[Mapping[str, str]] = {"stats_mean": "count", "stats_var": "count"}
    info_order: ClassVar[tuple[str, ...]] = (
        "dim",
        "block_dim",
        "epsilon",
        "target_rms",
        "count",
        "test_mode",
    )

    dim: int = stored(Kind.INTEGER, "<Dim>", "number of columns", key="dim", check=POSITIVE)
    block_dim: int = stored(
        Kind.INTEGER,
        "<BlockDim>",
        "columns a block; the statistics are shared by the blocks",
        key="block-dim",
        default=lambda c: c.dim,
        unset=-1,
        check=POSITIVE,
    )
    epsilon: float = stored(
        Kind.REAL,
        "<Epsilon>",
        "added to the variance",
        key="epsilon",
        default=single(0.001),
        check=POSITIVE,
    )
    target_rms: float = stored(
        Kind.REAL,
        "<TargetRms>",
        "standard deviation of the output",
        key="target-rms",
        default=1.0,
        check=POSITIVE,
    )
    test_mode: bool = stored(
        Kind.BOOLEAN,
        "<TestMode>",
        "normalize with the stored statistics",
        key="test-mode",
        default=False,
    )
    count: float = stored(
        Kind.DOUBLE,
        "<Count>",
        "rows in the statistics",
        default=0.0,
        role=Role.COUNT,
    )
    stats_mean: np.ndarray = stored(
        Kind.VECTOR,
        "<StatsMean>",
        "mean of the input (block_dim,)",
        default=_zeros,
        role=Role.AVERAGE,
    )
    stats_var: np.ndarray = stored(
        Kind.VECTOR,
        "<StatsVar>",
        "variance of the input (block_dim,)",
        default=_zeros,
        role=Role.AVERAGE,
    )

    @property
    def input_dim(self) -> int:
        return self.dim

    @property
    def output_dim(self) -> int:
        return self.dim

    def check(self) -> None:
        super().check()
        check_multiple(self, "dim", "block_dim")
        for name in ("stats_mean", "stats_var"):
            if self.count != 0 or getattr(self, name).size != 0:
                check_length(self, name, self.block_dim, "block-dim")
        if not np.isfinite(self.count):
            raise FieldError("count", f"count (={self.count}) must be finite")

    def moments(self) -> dict[str, np.ndarray]:
        moments = super().moments()
        return {**moments, "stats_var": moments["stats_var"] + moments["stats_mean"] ** 2}

    def from_moments(self, moments: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        mean = moments["stats_mean"]
        return {**moments, "stats_var": moments["stats_var"] - mean * mean}

    def recount(self) -> None:
        mean = self.stats_mean.astype(np.float64)
        squares = recounted_average(self.stats_var + mean * mean, self.count)
        self.stats_mean = recounted_average(self.stats_mean, self.count)
        self.stats_var = squares - self.stats_mean * self.stats_mean

    def info_items(self) -> Iterator[str]:
        yield from super().info_items()
        if self.count > 0:
            stddev = np.sqrt(np.maximum(self.stats_var, 0))
            yield f"data-mean={summarize_vector(self.stats_mean)}"
            yield f"data-stddev={summarize_vector(stddev)}"
