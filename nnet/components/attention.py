"""Attention over a few frames around each output frame."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nnet.components.base import Component, check_length
from nnet.components.field import (
    NOT_NEGATIVE,
    POSITIVE,
    Check,
    FieldError,
    Kind,
    Role,
    single,
    stored,
)
from nnet.components.registry import register
from nnet.components.summary import general
from nnet.components.window import TimeWindow

SHOWN_HEADS = 5


def _required_field(token: str, side: str) -> Any:
    return stored(
        Kind.INTEGER,
        token,
        f"{side} inputs that must be there, by default all; zeros stand for the others",
        key=f"num-{side}-inputs-required",
        default=lambda c: getattr(c, f"num_{side}_inputs"),
        unset=-1,
        check=NOT_NEGATIVE,
    )


def _inputs_field(token: str, side: str) -> Any:
    return stored(
        Kind.INTEGER,
        token,
        f"frames attended to on the {side} of the output frame",
        key=f"num-{side}-inputs",
        check=NOT_NEGATIVE,
    )


@register("RestrictedAttentionComponent")
@dataclass(kw_only=True, eq=False)
class RestrictedAttention(Component):
    """Attention of several heads, restricted in time (Povey et al., ICASSP 2018).

    For each head the input has (key, value, query), the query being `key_dim` columns and one more
    for each position, which is added to the product. A head's output is the mean of the values
    over the positions, weighted by softmax(key_scale * query . key + query of the position); with
    `output_context` the weights are appended to it.
    """

    info_order: ClassVar[tuple[str, ...]] = (
        *Component.info_order,
        "num_heads",
        "time_stride",
        "key_dim",
        "value_dim",
        "num_left_inputs",
        "num_right_inputs",
        "context_dim",
        "num_left_inputs_required",
        "num_right_inputs_required",
        "output_context",
        "key_scale",
    )

    num_heads: int = stored(
        Kind.INTEGER, "<NumHeads>", "number of heads", key="num-heads", default=1, check=POSITIVE
    )
    key_dim: int = stored(
        Kind.INTEGER, "<KeyDim>", "columns of a key", key="key-dim", check=POSITIVE
    )
    value_dim: int = stored(
        Kind.INTEGER, "<ValueDim>", "columns of a value", key="value-dim", check=POSITIVE
    )
    num_left_inputs: int = _inputs_field("<NumLeftInputs>", "left")
    num_right_inputs: int = _inputs_field("<NumRightInputs>", "right")
    time_stride: int = stored(
        Kind.INTEGER,
        "<TimeStride>",
        "frames between neighbouring positions",
        key="time-stride",
        default=1,
        check=POSITIVE,
    )
    num_left_inputs_required: int = _required_field("<NumLeftInputsRequired>", "left")
    num_right_inputs_required: int = _required_field("<NumRightInputsRequired>", "right")
    output_context: bool = stored(
        Kind.BOOLEAN,
        "<OutputContext>",
        "append the weights of the positions to the output",
        key="output-context",
        default=True,
    )
    key_scale: float = stored(
        Kind.REAL,
        "<KeyScale>",
        "factor on the products of keys and queries, by default (also if negative) 1/sqrt(key-dim)",
        key="key-scale",
        default=lambda c: single(1.0 / math.sqrt(c.key_dim)),
        check=Check("at most 1", lambda value: value <= 1),
    )
    stats_count: float = stored(
        Kind.DOUBLE, "<StatsCount>", "rows in the statistics", default=0.0, role=Role.COUNT
    )
    entropy_stats: np.ndarray = stored(
        Kind.DOUBLE_VECTOR,
        "<EntropyStats>",
        "sum of the entropies of the weights (num_heads,), or empty",
        default=lambda c: np.zeros(0),
        role=Role.COUNT,
    )
    posterior_stats: np.ndarray = stored(
        Kind.DOUBLE_MATRIX,
        "<PosteriorStats>",
        "sum of the weights (num_heads, context_dim), or empty",
        default=lambda c: np.zeros((0, 0)),
        role=Role.COUNT,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.key_scale < 0:
            self.key_scale = self.default_of("key_scale")

    @property
    def context_dim(self) -> int:
        """Number of positions."""
        return self.num_left_inputs + 1 + self.num_right_inputs

    @property
    def input_dim(self) -> int:
        return self.num_heads * (2 * self.key_dim + self.value_dim + self.context_dim)

    @property
    def output_dim(self) -> int:
        context_dim = self.context_dim if self.output_context else 0
        return self.num_heads * (self.value_dim + context_dim)

    @property
    def window(self) -> TimeWindow:
        stride = self.time_stride
        return TimeWindow(
            range(-stride * self.num_left_inputs, stride * self.num_right_inputs + 1, stride),
            range(
                -stride * self.num_left_inputs_required,
                stride * self.num_right_inputs_required + 1,
                stride,
            ),
        )

    def check(self) -> None:
        super().check()
        if self.context_dim == 1:
            raise FieldError(
                "num-left-inputs", "num-left-inputs and num-right-inputs are both zero"
            )
        for side in ("left", "right"):
            inputs = getattr(self, f"num_{side}_inputs")
            required = getattr(self, f"num_{side}_inputs_required")
            if required > inputs:
                key = f"num-{side}-inputs-required"
                raise FieldError(key, f"{key} (={required}) is above num-{side}-inputs (={inputs})")
        if self.entropy_stats.size or self.posterior_stats.size or self.stats_count:
            check_length(self, "entropy_stats", self.num_heads, "num-heads")
            size = self.num_heads * self.context_dim
            check_length(self, "posterior_stats", size, "num-heads * context-dim")

    def info_items(self) -> Iterator[str]:
        items = list(super().info_items())
        if self.stats_count != 0:
            entropy = "".join(f"{general(v / self.stats_count)}," for v in self.entropy_stats)
            statistics = [f"entropy={entropy}"]
            for number, row in enumerate(self.posterior_stats[:SHOWN_HEADS]):
                weights = "".join(f"{general(v / self.stats_count)}," for v in row)
                statistics.append(f"posterior-stats[{number}]={weights}")
            statistics.append(f"stats-count={general(self.stats_count)}")
            items.append(" ".join(statistics))
        yield from items
