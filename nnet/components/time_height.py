"""Convolution over time and height, the time axis being that of the network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnet.components.affine import alpha_field
from nnet.components.base import Updatable, check_length
from nnet.components.field import (
    NOT_NEGATIVE,
    POSITIVE,
    Check,
    FieldError,
    Kind,
    Mark,
    Role,
    Setting,
    stored,
)
from nnet.components.registry import register
from nnet.components.summary import mean_stddev, rms
from nnet.components.window import TimeWindow
from nnet.limits import check_array

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer

Offsets = tuple[tuple[int, int], ...]

SORTED = Check("different integers in increasing order", lambda v: list(v) == sorted(set(v)))


def _size_field(token: str, key: str, doc: str) -> Any:
    return stored(Kind.INTEGER, token, doc, key=key, check=POSITIVE)


def _rank_field(token: str | None, side: str, dim: str, docs: str) -> Any:
    return stored(
        Kind.INTEGER,
        token,
        f"rank of the natural gradient on the {docs} side",
        key=f"rank-{side}",
        default=lambda c: min(80, (getattr(c, dim) + 1) // 2),
        unset=-1,
        check=POSITIVE,
    )


def _is_increasing(pairs: Offsets) -> bool:
    return len(pairs) > 0 and list(pairs) == sorted(set(pairs))


@register("TimeHeightConvolutionComponent")
@dataclass(kw_only=True, eq=False)
class TimeHeightConvolution(Updatable):
    """y(t, h) = bias + sum over offsets (dt, dh) of filters x(t + dt, s h + dh), s the subsampling.

    A row holds `height` pixels side by side, each of `num_filters` columns. `linear` is
    (num_filters_out, num_filters_in * number of offsets), the blocks of the offsets side by side.
    Heights outside the image count as zero; so do frames that are not there, at those time offsets
    that are not required.
    """

    settings: ClassVar[tuple[Setting, ...]] = (
        Setting(
            "offsets",
            Kind.PAIRS,
            "time and height offset of each block of the filters; not needed if there are "
            "time-offsets and height-offsets",
        ),
        Setting("time-offsets", Kind.INTEGERS, "with all height-offsets", None, SORTED, "offsets"),
        Setting("height-offsets", Kind.INTEGERS, "with all time-offsets", None, SORTED, "offsets"),
        Setting(
            "param-stddev",
            Kind.REAL,
            "standard deviation of the initial filters, by default (also if negative) "
            "1/sqrt(num-filters-in * number of offsets)",
            -1.0,
        ),
        Setting(
            "bias-stddev", Kind.REAL, "standard deviation of the initial bias", 0.0, NOT_NEGATIVE
        ),
        Setting("init-unit", Kind.BOOLEAN, "begin as the identity", False),
    )
    info_order: ClassVar[tuple[str, ...]] = (
        *Updatable.info_order,
        "num_filters_in",
        "num_filters_out",
        "height_in",
        "height_out",
        "height_subsample_out",
        "offsets",
        "required_time_offsets",
        "input_dim",
        "output_dim",
        "linear",
        "bias",
        "num_params",
        "max_memory_mb",
        "use_natural_gradient",
    )
    natural_gradient_info: ClassVar[tuple[str, ...]] = (
        "num_minibatches_history",
        "rank_in",
        "rank_out",
        "alpha",
    )

    model = Mark("<Model>")
    begin = Mark("<ConvolutionModel>")
    num_filters_in: int = _size_field("<NumFiltersIn>", "num-filters-in", "columns a pixel read")
    num_filters_out: int = _size_field("<NumFiltersOut>", "num-filters-out", "columns a pixel made")
    height_in: int = _size_field("<HeightIn>", "height-in", "pixels read")
    height_out: int = _size_field("<HeightOut>", "height-out", "pixels made")
    height_subsample_out: int = stored(
        Kind.INTEGER,
        "<HeightSubsampleOut>",
        "pixels that are read for one that is made",
        key="height-subsample-out",
        default=1,
        check=POSITIVE,
    )
    offsets: Offsets = stored(
        Kind.PAIRS,
        "<Offsets>",
        "time offset (frames) and height offset (pixels) of each block of the filters",
        check=Check("different pairs in increasing order", _is_increasing),
        info=lambda c: "{time,height}-offsets=[" + " ".join(f"{t},{h}" for t, h in c.offsets) + "]",
    )
    required_time_offsets: tuple[int, ...] = stored(
        Kind.INTEGERS,
        "<RequiredTimeOffsets>",
        "time offsets whose frames must be there, by default all",
        key="required-time-offsets",
        default=lambda c: c.time_offsets,
        check=Check(
            "one or more different integers in increasing order",
            lambda v: len(v) > 0 and SORTED.holds(v),
        ),
        info=lambda c: (
            "required-time-offsets=[" + ",".join(map(str, c.required_time_offsets)) + "]"
        ),
    )
    end = Mark("</ConvolutionModel>")
    linear: np.ndarray = stored(
        Kind.MATRIX,
        "<LinearParams>",
        "filters (num_filters_out, num_filters_in * number of offsets)",
        role=Role.PARAMETER,
        info=lambda c: rms("filter-params", c.linear),
    )
    bias: np.ndarray = stored(
        Kind.VECTOR,
        "<BiasParams>",
        "bias (num_filters_out,)",
        role=Role.PARAMETER,
        info=lambda c: mean_stddev("bias-params", c.bias),
    )
    max_memory_mb: float = stored(
        Kind.REAL,
        "<MaxMemoryMb>",
        "a limit on nnet3's temporary matrix, without meaning here",
        key="max-memory-mb",
        default=200.0,
        check=POSITIVE,
    )
    use_natural_gradient: bool = stored(
        Kind.BOOLEAN,
        "<UseNaturalGradient>",
        "train with natural gradient",
        key="use-natural-gradient",
        default=True,
        info=lambda c: f"use-natural-gradient={int(c.use_natural_gradient)}",
    )
    num_minibatches_history: float = stored(
        Kind.REAL,
        "<NumMinibatchesHistory>",
        "minibatches over which the natural gradient averages",
        key="num-minibatches-history",
        default=4.0,
        check=Check("above 1", lambda value: value > 1),
    )
    alpha_in: float = alpha_field("<AlphaInOut>", "alpha-in")
    alpha_out: float = alpha_field(None, "alpha-out")
    rank_in: int = _rank_field("<RankInOut>", "in", "augmented_columns", "input")
    rank_out: int = _rank_field(None, "out", "num_filters_out", "output")

    @classmethod
    def create(cls, given: Given, init: Initializer) -> TimeHeightConvolution:
        offsets = _given_offsets(given)
        rows, channels = given.fields["num_filters_out"], given.fields["num_filters_in"]
        columns, stddev = channels * len(offsets), given["param-stddev"]
        if given["init-unit"]:
            linear = _unit_filters(rows, channels, offsets)
        else:
            stddev = 1.0 / math.sqrt(columns) if stddev < 0 else stddev
            linear = init.normal(rows, columns, stddev=stddev)
        bias = init.normal(rows, stddev=given["bias-stddev"])
        return cls(offsets=offsets, linear=linear, bias=bias, **given.fields)

    @property
    def input_dim(self) -> int:
        return self.num_filters_in * self.height_in

    @property
    def output_dim(self) -> int:
        return self.num_filters_out * self.height_out

    @property
    def num_params(self) -> int:
        return self.num_parameters

    @property
    def flops_per_row(self) -> int:
        return 2 * self.num_parameters * self.height_out

    @property
    def alpha(self) -> float:
        return self.alpha_in

    @property
    def augmented_columns(self) -> int:
        """Columns of the filters with the bias beside them."""
        return int(self.linear.shape[1]) + 1

    @property
    def time_offsets(self) -> tuple[int, ...]:
        """The different time offsets, in increasing order."""
        return tuple(sorted({time for time, _ in self.offsets}))

    @property
    def window(self) -> TimeWindow:
        return TimeWindow(self.time_offsets, self.required_time_offsets)

    def check(self) -> None:
        super().check()
        rows, columns = self.num_filters_out, self.num_filters_in * len(self.offsets)
        if self.linear.shape != (rows, columns):
            found = " x ".join(map(str, self.linear.shape))
            raise FieldError(
                "linear", f"the matrix of filters is {found}, expected {rows} x {columns}"
            )
        check_length(self, "bias", rows, "num-filters-out")
        if not set(self.required_time_offsets) <= set(self.time_offsets):
            raise FieldError(
                "required-time-offsets",
                f"required-time-offsets (={','.join(map(str, self.required_time_offsets))}) must "
                f"be among the time offsets ({','.join(map(str, self.time_offsets))})",
            )
        self._check_heights()

    def _check_heights(self) -> None:
        """Every pixel must see an input, also where only required frames are there."""
        seen = [
            {
                offset
                for offset in self.offsets
                if 0 <= h * self.height_subsample_out + offset[1] < self.height_in
            }
            for h in range(self.height_out)
        ]
        required = set(self.required_time_offsets)
        for h, offsets in enumerate(seen):
            if not any(time in required for time, _ in offsets):
                raise FieldError(
                    "height-out",
                    f"height-out (={self.height_out}) is too large: at output height {h} no input "
                    "is there when only the required time offsets are",
                )
        for time, height in set(self.offsets) - set().union(*seen):
            raise FieldError(
                "offsets", f"the (time, height) offset ({time},{height}) reads no input at all"
            )

    def info_names(self) -> tuple[str, ...]:
        if self.use_natural_gradient:
            return (*self.info_order, *self.natural_gradient_info)
        return self.info_order

    def info_items(self) -> Iterator[str]:
        """In nnet3's text there is no comma before the first item of the model."""
        items = list(super().info_items())
        at = next(i for i, item in enumerate(items) if item.startswith("num-filters-in="))
        yield from (*items[: at - 1], f"{items[at - 1]} {items[at]}", *items[at + 1 :])


def _given_offsets(given: Given) -> Offsets:
    if given["offsets"] is not None:
        offsets: Offsets = tuple(sorted(given["offsets"]))
        return offsets
    times, heights = given["time-offsets"], given["height-offsets"]
    if times is None or heights is None:
        raise FieldError(
            "offsets", "'offsets' (or both 'time-offsets' and 'height-offsets') is missing"
        )
    return tuple((time, height) for time in times for height in heights)


def _unit_filters(rows: int, channels: int, offsets: Offsets) -> np.ndarray:
    """Filters (rows, channels * number of offsets) that pass the input on."""
    if rows != channels:
        raise FieldError(
            "init-unit",
            f"init-unit needs num-filters-out (={rows}) to equal num-filters-in (={channels})",
        )
    if (0, 0) not in offsets:
        raise FieldError("init-unit", "init-unit needs the (time, height) offset (0,0)")
    check_array(rows, channels * len(offsets))
    linear = np.zeros((rows, channels * len(offsets)), np.float32)
    start = channels * offsets.index((0, 0))
    linear[:, start : start + channels] = np.eye(rows, dtype=np.float32)
    return linear
