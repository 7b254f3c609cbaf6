"""The time-delay component: an affine map of a few frames side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from nnet.components.affine import (
    INPUT_DIM,
    OUTPUT_DIM,
    alpha_field,
    history_field,
    linear_field,
    rank_field,
)
from nnet.components.base import Updatable, check_length
from nnet.components.field import (
    NOT_NEGATIVE,
    REQUIRED,
    Check,
    FieldError,
    Kind,
    Old,
    Role,
    Setting,
    stored,
)
from nnet.components.registry import register
from nnet.components.summary import mean_stddev
from nnet.components.window import TimeWindow

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer


def _bias_info(component: Tdnn) -> str:
    return "has-bias=false" if component.bias is None else mean_stddev("bias", component.bias)


@register("TdnnComponent")
@dataclass(kw_only=True, eq=False)
class Tdnn(Updatable):
    """y(t) = sum_i linear_i x(t + time_offsets[i]) + bias.

    `linear` is (output_dim, input_dim * num_offsets), the blocks of the offsets side by side.
    """

    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("input-dim", Kind.INTEGER, INPUT_DIM.doc, REQUIRED, INPUT_DIM.check),
        Setting("output-dim", Kind.INTEGER, OUTPUT_DIM.doc, REQUIRED, OUTPUT_DIM.check),
        Setting(
            "param-stddev",
            Kind.REAL,
            "standard deviation of the initial matrix, by default (also if negative) "
            "1/sqrt(input-dim * number of offsets)",
            default=-1.0,
        ),
        Setting(
            "bias-stddev", Kind.REAL, "standard deviation of the initial bias", 1.0, NOT_NEGATIVE
        ),
        Setting("bias-mean", Kind.REAL, "mean of the initial bias", 0.0),
        Setting("use-bias", Kind.BOOLEAN, "whether there is a bias", True),
    )
    info_order: ClassVar[tuple[str, ...]] = (
        *Updatable.info_order,
        "orthonormal_constraint",
        "time_offsets",
        "linear",
        "bias",
        "use_natural_gradient",
        "rank_in",
        "rank_out",
        "num_samples_history",
        "update_period",
        "alpha_in",
        "alpha_out",
    )
    update_period: ClassVar[int] = 4

    time_offsets: tuple[int, ...] = stored(
        Kind.INTEGERS,
        "<TimeOffsets>",
        "frames that are read, relative to the output frame",
        key="time-offsets",
        check=Check("one or more different integers", lambda v: 0 < len(v) == len(set(v))),
    )
    linear: np.ndarray = linear_field("<LinearParams>", "linear-params")
    bias: np.ndarray | None = stored(
        Kind.VECTOR,
        "<BiasParams>",
        "bias (output_dim,), or None",
        role=Role.PARAMETER,
        info=_bias_info,
    )
    orthonormal_constraint: float = stored(
        Kind.REAL,
        "<OrthonormalConstraint>",
        "as in LinearComponent",
        key="orthonormal-constraint",
        default=0.0,
        shown=False,
    )
    use_natural_gradient: bool = stored(
        Kind.BOOLEAN,
        "<UseNaturalGradient>",
        "train with natural gradient",
        key="use-natural-gradient",
        default=True,
        shown=False,
    )
    num_samples_history: float = history_field()
    old_alpha = Old("<Alpha>", Kind.REAL, sets=("alpha_in", "alpha_out"))
    alpha_in: float = alpha_field("<AlphaInOut>", "alpha-in")
    alpha_out: float = alpha_field(None, "alpha-out")
    rank_in: int = rank_field("<RankInOut>", "input")
    rank_out: int = rank_field(None, "output")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bias is not None and self.bias.size == 0:
            self.bias = None

    @classmethod
    def create(cls, given: Given, init: Initializer) -> Tdnn:
        columns = given["input-dim"] * len(given.fields["time_offsets"])
        output_dim, stddev = given["output-dim"], given["param-stddev"]
        linear = init.normal(
            output_dim, columns, stddev=1.0 / math.sqrt(columns) if stddev < 0 else stddev
        )
        bias = None
        if given["use-bias"]:
            bias = init.normal(output_dim, stddev=given["bias-stddev"], mean=given["bias-mean"])
        return cls(linear=linear, bias=bias, **given.fields)

    @property
    def input_dim(self) -> int:
        return int(self.linear.shape[1]) // len(self.time_offsets)

    @property
    def output_dim(self) -> int:
        return int(self.linear.shape[0])

    @property
    def window(self) -> TimeWindow:
        return TimeWindow.all_of(self.time_offsets)

    def info_names(self) -> tuple[str, ...]:
        if self.use_natural_gradient:
            return self.info_order
        return self.info_order[: self.info_order.index("use_natural_gradient") + 1]

    def check(self) -> None:
        super().check()
        rows, columns = self.linear.shape
        if rows == 0 or columns == 0 or columns % len(self.time_offsets) != 0:
            raise FieldError(
                "linear",
                f"the matrix is {rows} x {columns}; its columns must be a multiple of the number "
                f"of time-offsets (={len(self.time_offsets)})",
            )
        if self.bias is not None:
            check_length(self, "bias", rows, "one for each row of the matrix")
