"""Trained scales and offsets of columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnet.components.affine import alpha_field, history_field, update_period_field
from nnet.components.base import Updatable, check_length, check_multiple
from nnet.components.field import (
    NOT_NEGATIVE,
    POSITIVE,
    REQUIRED,
    FieldError,
    Kind,
    Old,
    Presence,
    Repeated,
    Role,
    Setting,
    stored,
)
from nnet.components.registry import register
from nnet.components.summary import mean_stddev

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer


def _parameter_settings(file_key: str, mean: float) -> tuple[Setting, ...]:
    """Keys for the initial values of a vector of parameters."""
    return (
        Setting(file_key, Kind.TEXT, "file with the initial vector"),
        Setting("param-mean", Kind.REAL, "mean of the initial values", mean, unless=file_key),
        Setting(
            "param-stddev",
            Kind.REAL,
            "standard deviation of the initial values",
            0.0,
            NOT_NEGATIVE,
            unless=file_key,
        ),
    )


def _parameter(token: str, name: str, doc: str) -> Any:
    return stored(
        Kind.VECTOR,
        token,
        doc,
        role=Role.PARAMETER,
        info=lambda c: mean_stddev(name, getattr(c, name)),
    )


def _rank_field(default: int) -> Any:
    return stored(
        Kind.INTEGER,
        "<Rank>",
        "rank of the natural gradient",
        key="rank",
        default=default,
        check=POSITIVE,
    )


def _use_natural_gradient_field(presence: Presence = Presence.ALWAYS) -> Any:
    return stored(
        Kind.BOOLEAN,
        "<UseNaturalGradient>",
        "train with natural gradient",
        key="use-natural-gradient",
        default=True,
        presence=presence,
    )


@register("PerElementScaleComponent")
@dataclass(kw_only=True, eq=False)
class PerElementScale(Updatable):
    """Multiplies each column by a trained number."""

    file_key: ClassVar[str] = "vector"
    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("dim", Kind.INTEGER, "number of columns", REQUIRED, POSITIVE, unless="vector"),
        *_parameter_settings("vector", 1.0),
    )
    info_order: ClassVar[tuple[str, ...]] = (
        *Updatable.info_order,
        "scales_min",
        "scales_max",
        "scales",
    )

    scales: np.ndarray = _parameter("<Params>", "scales", "scales (dim,)")
    old_is_gradient = Old("<IsGradient>", Kind.BOOLEAN, sets=("is_gradient",))

    @classmethod
    def create(cls, given: Given, init: Initializer) -> PerElementScale:
        filename, dim = given[cls.file_key], given["dim"]
        if filename is None:
            scales = init.normal(dim, stddev=given["param-stddev"], mean=given["param-mean"])
        else:
            scales = init.read_vector(filename)
            if dim is not REQUIRED and dim != scales.size:
                raise FieldError("dim", f"dim (={dim}) differs from the vector's ({scales.size})")
        return cls(scales=scales, **given.fields)

    @property
    def input_dim(self) -> int:
        return int(self.scales.size)

    @property
    def output_dim(self) -> int:
        return int(self.scales.size)

    @property
    def scales_min(self) -> float:
        return float(self.scales.min())

    @property
    def scales_max(self) -> float:
        return float(self.scales.max())

    def check(self) -> None:
        super().check()
        if self.scales.size == 0:
            raise FieldError("scales", "the vector of scales is empty")


@register("NaturalGradientPerElementScaleComponent")
@dataclass(kw_only=True, eq=False)
class NaturalGradientPerElementScale(PerElementScale):
    """Multiplies each column by a number that is trained with natural gradient."""

    file_key = "scales"
    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("dim", Kind.INTEGER, "number of columns", REQUIRED, POSITIVE, unless="scales"),
        *_parameter_settings("scales", 1.0),
    )
    info_order: ClassVar[tuple[str, ...]] = (
        *PerElementScale.info_order,
        "rank",
        "update_period",
        "num_samples_history",
        "alpha",
    )

    is_gradient_again = Repeated("<IsGradient>", Kind.BOOLEAN, "is_gradient")
    rank: int = _rank_field(8)
    update_period: int = update_period_field(10)
    num_samples_history: float = history_field()
    alpha: float = alpha_field()
    old_max_change = Old("<MaxChangePerMinibatch>", Kind.REAL)


@register("PerElementOffsetComponent")
@dataclass(kw_only=True, eq=False)
class PerElementOffset(Updatable):
    """Adds a trained number to each column; blocks of columns share them."""

    settings: ClassVar[tuple[Setting, ...]] = (
        *_parameter_settings("vector", 0.0),
        Setting(
            "block-dim",
            Kind.INTEGER,
            "columns a block; the blocks share their offsets",
            check=POSITIVE,
            unless="vector",
        ),
    )
    info_order: ClassVar[tuple[str, ...]] = (
        *Updatable.info_order,
        "offsets_min",
        "offsets_max",
        "block_dim",
        "use_natural_gradient",
        "offsets",
    )

    offsets: np.ndarray = _parameter("<Offsets>", "offsets", "offsets (block_dim,)")
    old_is_gradient = Old("<IsGradient>", Kind.BOOLEAN, sets=("is_gradient",))
    dim: int = stored(
        Kind.INTEGER,
        "<Dim>",
        "number of columns; needed unless there is a vector",
        key="dim",
        default=lambda c: int(c.offsets.size),
        check=POSITIVE,
        presence=Presence.SINCE,
    )
    use_natural_gradient: bool = _use_natural_gradient_field(Presence.SINCE)

    @classmethod
    def create(cls, given: Given, init: Initializer) -> PerElementOffset:
        if given["vector"] is not None:
            return cls(offsets=init.read_vector(given["vector"]), **given.fields)
        if "dim" not in given.fields:
            raise FieldError("dim", "'dim' (or 'vector') is missing")
        block_dim = given["block-dim"] or given.fields["dim"]
        offsets = init.normal(block_dim, stddev=given["param-stddev"], mean=given["param-mean"])
        return cls(offsets=offsets, **given.fields)

    @property
    def input_dim(self) -> int:
        return self.dim

    @property
    def output_dim(self) -> int:
        return self.dim

    @property
    def block_dim(self) -> int:
        """Columns a block."""
        return int(self.offsets.size)

    @property
    def offsets_min(self) -> float:
        return float(self.offsets.min())

    @property
    def offsets_max(self) -> float:
        return float(self.offsets.max())

    def check(self) -> None:
        super().check()
        check_multiple(self, "dim", "block_dim")


def _block_size_info(component: ScaleAndOffset) -> str:
    block_dim = component.scales.size
    return "" if block_dim == component.dim else f"block-size={block_dim}"


@register("ScaleAndOffsetComponent")
@dataclass(kw_only=True, eq=False)
class ScaleAndOffset(Updatable):
    """y = scales * x + offsets, both trained; blocks of columns share them."""

    settings: ClassVar[tuple[Setting, ...]] = (
        Setting(
            "block-dim",
            Kind.INTEGER,
            "columns a block; the blocks share scales and offsets",
            check=POSITIVE,
        ),
    )
    info_order: ClassVar[tuple[str, ...]] = (
        *Updatable.info_order,
        "rank",
        "dim",
        "scales",
        "offsets",
    )

    dim: int = stored(
        Kind.INTEGER,
        "<Dim>",
        "number of columns",
        key="dim",
        check=POSITIVE,
        info=_block_size_info,
    )
    scales: np.ndarray = _parameter("<Scales>", "scales", "scales (block_dim,)")
    offsets: np.ndarray = _parameter("<Offsets>", "offsets", "offsets (block_dim,)")
    use_natural_gradient: bool = _use_natural_gradient_field()
    rank: int = _rank_field(20)

    @classmethod
    def create(cls, given: Given, init: Initializer) -> ScaleAndOffset:
        block_dim = given["block-dim"] or given.fields["dim"]
        scales = np.ones(block_dim, np.float32)
        return cls(scales=scales, offsets=np.zeros(block_dim, np.float32), **given.fields)

    @property
    def input_dim(self) -> int:
        return self.dim

    @property
    def output_dim(self) -> int:
        return self.dim

    @property
    def block_dim(self) -> int:
        """Columns a block."""
        return int(self.scales.size)

    def check(self) -> None:
        super().check()
        check_multiple(self, "dim", "block_dim")
        check_length(self, "offsets", self.block_dim, "as many as scales")
