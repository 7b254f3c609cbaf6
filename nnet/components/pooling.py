"""Means and variances over stretches of time, as x-vectors pool them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nnet.components.base import Component, check_multiple
from nnet.components.field import (
    NOT_NEGATIVE,
    POSITIVE,
    Check,
    FieldError,
    Kind,
    single,
    stored,
)
from nnet.components.registry import register
from nnet.components.window import TimeWindow


@register("StatisticsExtractionComponent")
@dataclass(kw_only=True, eq=False)
class StatisticsExtraction(Component):
    """Count, sum and sum of squares of the frames of each period of time.

    Every output frame of a period [k p, (k + 1) p), p the output period, has those of the same
    input frames, the multiples of the input period in it as far as they are there.
    """

    input_dim: int = stored(
        Kind.INTEGER, "<InputDim>", "number of columns read", key="input-dim", check=POSITIVE
    )
    input_period: int = stored(
        Kind.INTEGER,
        "<InputPeriod>",
        "frames between input frames",
        key="input-period",
        default=1,
        check=POSITIVE,
    )
    output_period: int = stored(
        Kind.INTEGER,
        "<OutputPeriod>",
        "frames summed up",
        key="output-period",
        default=1,
        check=POSITIVE,
    )
    include_variance: bool = stored(
        Kind.BOOLEAN,
        "<IncludeVarinance>",
        "whether there are sums of squares",
        key="include-variance",
        default=True,
    )

    @property
    def output_dim(self) -> int:
        return 1 + self.input_dim * (2 if self.include_variance else 1)

    @property
    def window(self) -> TimeWindow:
        offsets = range(0, self.output_period, self.input_period)
        return TimeWindow(offsets, (), modulus=self.output_period)

    def check(self) -> None:
        super().check()
        check_multiple(self, "output_period", "input_period")


@register("StatisticsPoolingComponent")
@dataclass(kw_only=True, eq=False)
class StatisticsPooling(Component):
    """Statistics of StatisticsExtraction over a window of time, made means and deviations.

    Reads (count, sums, sums of squares or not), at those frames of the window that are there.
    Makes the log of the count `num_log_count_features` times, the sums over the count, and with
    `output_stddevs` standard deviations in place of the means of squares.
    """

    input_dim: int = stored(
        Kind.INTEGER, "<InputDim>", "number of columns read", key="input-dim", check=POSITIVE
    )
    input_period: int = stored(
        Kind.INTEGER,
        "<InputPeriod>",
        "frames between input frames; outputs are at its multiples alone",
        key="input-period",
        default=1,
        check=POSITIVE,
    )
    left_context: int = stored(
        Kind.INTEGER,
        "<LeftContext>",
        "frames of the window before the output frame",
        key="left-context",
        check=NOT_NEGATIVE,
    )
    right_context: int = stored(
        Kind.INTEGER,
        "<RightContext>",
        "frames of the window after the output frame",
        key="right-context",
        check=NOT_NEGATIVE,
    )
    num_log_count_features: int = stored(
        Kind.INTEGER,
        "<NumLogCountFeatures>",
        "columns that are the log of the count",
        key="num-log-count-features",
        default=0,
        check=NOT_NEGATIVE,
    )
    output_stddevs: bool = stored(
        Kind.BOOLEAN,
        "<OutputStddevs>",
        "make standard deviations of the means of squares",
        key="output-stddevs",
        default=False,
    )
    variance_floor: float = stored(
        Kind.REAL,
        "<VarianceFloor>",
        "least variance",
        key="variance-floor",
        default=single(1e-10),
        check=Check("above 0 and below 1", lambda value: 0 < value < 1),
    )

    info_order: ClassVar[tuple[str, ...]] = Component.info_order

    @property
    def output_dim(self) -> int:
        return self.input_dim + self.num_log_count_features - 1

    @property
    def feature_dim(self) -> int:
        """Columns of means, where there are standard deviations beside them."""
        return (self.input_dim - 1) // 2

    @property
    def window(self) -> TimeWindow:
        offsets = range(-self.left_context, self.right_context + 1, self.input_period)
        return TimeWindow(offsets, (), every=self.input_period)

    def check(self) -> None:
        super().check()
        for side in ("left", "right"):
            check_period(self, f"{side}-context", getattr(self, f"{side}_context"))
        if self.left_context + self.right_context == 0:
            raise FieldError("left-context", "left-context and right-context are both zero")
        if self.output_stddevs and self.input_dim % 2 == 0:
            raise FieldError(
                "input-dim",
                f"input-dim (={self.input_dim}) must be odd with output-stddevs: a count, sums, "
                "and as many sums of squares",
            )


def check_period(component: StatisticsPooling, key: str, value: int) -> None:
    """Raises FieldError unless a number of frames is a multiple of the input period."""
    if value % component.input_period != 0:
        raise FieldError(
            key,
            f"{key} (={value}) must be a multiple of input-period (={component.input_period})",
        )
