"""Nonlinearities that work column by column, or across the columns of a row, with statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nnet.components.base import Component, check_multiple, recounted_average
from nnet.components.field import POSITIVE, FieldError, Kind, Presence, Role, stored
from nnet.components.registry import register
from nnet.components.summary import general, plain, summarize_vector

# What self-repair-lower-threshold and self-repair-upper-threshold hold when they are not set.
UNSET_THRESHOLD = -1000.0


def _no_statistics(component: Any) -> np.ndarray:
    return np.zeros(0, np.float32)


def _average_field(token: str, doc: str, presence: Presence = Presence.ALWAYS) -> Any:
    return stored(
        Kind.VECTOR, token, doc, default=_no_statistics, role=Role.AVERAGE, presence=presence
    )


def _count_field(token: str, doc: str, presence: Presence = Presence.SINCE) -> Any:
    return stored(Kind.DOUBLE, token, doc, default=0.0, role=Role.COUNT, presence=presence)


def _threshold_field(token: str, key: str, doc: str) -> Any:
    return stored(
        Kind.REAL,
        token,
        doc,
        key=key,
        default=UNSET_THRESHOLD,
        presence=Presence.NONDEFAULT,
        shown=False,
    )


@dataclass(kw_only=True, eq=False)
class Nonlinearity(Component):
    """A function of `dim` columns with statistics of its activations and derivatives."""

    info_order: ClassVar[tuple[str, ...]] = (
        "dim",
        "block_dim",
        "self_repair_lower_threshold",
        "self_repair_upper_threshold",
        "self_repair_scale",
    )

    averaged_over: ClassVar[Mapping[str, str]] = {
        "value_avg": "nonlinearity_count",
        "deriv_avg": "nonlinearity_count",
        "oderiv_rms": "oderiv_count",
    }

    dim: int = stored(Kind.INTEGER, "<Dim>", "number of columns", key="dim", check=POSITIVE)
    block_dim: int = stored(
        Kind.INTEGER,
        "<BlockDim>",
        "columns a block; the statistics are shared by the blocks",
        key="block-dim",
        default=lambda c: c.dim,
        check=POSITIVE,
        presence=Presence.NONDEFAULT,
        shown=False,
    )
    value_avg: np.ndarray = _average_field("<ValueAvg>", "mean output of each column, or empty")
    deriv_avg: np.ndarray = _average_field("<DerivAvg>", "mean derivative of each column, or empty")
    nonlinearity_count: float = _count_field(
        "<Count>", "frames in the statistics of values and derivatives", Presence.ALWAYS
    )
    oderiv_rms: np.ndarray = _average_field(
        "<OderivRms>",
        "root mean square of the derivative of the objective by each output, or empty",
        Presence.SINCE,
    )
    oderiv_count: float = _count_field("<OderivCount>", "frames in `oderiv_rms`")
    num_dims_self_repaired: float = _count_field(
        "<NumDimsSelfRepaired>", "columns that were self-repaired, over all minibatches"
    )
    num_dims_processed: float = _count_field(
        "<NumDimsProcessed>", "columns that could have been self-repaired, over all minibatches"
    )
    self_repair_lower_threshold: float = _threshold_field(
        "<SelfRepairLowerThreshold>",
        "self-repair-lower-threshold",
        "mean derivative below which a unit is repaired; -1000 for the type's own default",
    )
    self_repair_upper_threshold: float = _threshold_field(
        "<SelfRepairUpperThreshold>",
        "self-repair-upper-threshold",
        "mean derivative above which a unit is repaired; -1000 for the type's own default",
    )
    self_repair_scale: float = stored(
        Kind.REAL,
        "<SelfRepairScale>",
        "strength of self-repair; 0 for none",
        key="self-repair-scale",
        default=0.0,
        presence=Presence.NONDEFAULT,
        shown=False,
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
        for name in ("value_avg", "deriv_avg", "oderiv_rms"):
            size = getattr(self, name).size
            if size not in (0, self.dim, self.block_dim):
                key = name.replace("_", "-")
                raise FieldError(key, f"{key} has {size} elements, expected dim (={self.dim})")

    def recount(self) -> None:
        self.value_avg = recounted_average(self.value_avg, self.nonlinearity_count)
        self.deriv_avg = recounted_average(self.deriv_avg, self.nonlinearity_count)
        squares = self.oderiv_rms.astype(np.float64) ** 2
        self.oderiv_rms = np.sqrt(
            np.maximum(recounted_average(squares, self.oderiv_count), np.float32(0))
        )

    def moments(self) -> dict[str, np.ndarray]:
        moments = super().moments()
        return {**moments, "oderiv_rms": moments["oderiv_rms"] ** 2}

    def from_moments(self, moments: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**moments, "oderiv_rms": np.sqrt(np.maximum(moments["oderiv_rms"], 0))}

    def info_items(self) -> Iterator[str]:
        yield from super().info_items()
        if self.nonlinearity_count > 0 and self.value_avg.size == self.dim:
            yield f"count={general(self.nonlinearity_count, 3)}"
            processed = self.num_dims_processed
            share = self.num_dims_self_repaired / processed if processed > 0 else 0.0
            yield plain("self-repaired-proportion", float(share))
            yield f"value-avg={summarize_vector(self.value_avg)}"
            if self.deriv_avg.size == self.dim:
                yield f"deriv-avg={summarize_vector(self.deriv_avg)}"
        if self.oderiv_count > 0 and self.oderiv_rms.size == self.dim:
            yield f"oderiv-rms={summarize_vector(self.oderiv_rms)}"
            yield plain("oderiv-count", float(self.oderiv_count))


class Elementwise(Nonlinearity):
    """A function of single numbers, of which `nnet.kernels.functions` has all forms by name."""

    function: ClassVar[str]


@register("SigmoidComponent")
class Sigmoid(Elementwise):
    """y = 1 / (1 + exp(-x))."""

    function = "sigmoid"


@register("TanhComponent")
class Tanh(Elementwise):
    """y = tanh(x)."""

    function = "tanh"


@register("RectifiedLinearComponent")
class RectifiedLinear(Elementwise):
    """y = max(x, 0)."""

    function = "relu"


@register("SwishComponent")
class Swish(Elementwise):
    """y = x / (1 + exp(-x)) (Ramachandran, Zoph & Le, "Searching for activation functions", 2017).

    Not loadable by Kaldi.
    """

    function = "swish"
    in_kaldi = False


@register("SoftmaxComponent")
class Softmax(Nonlinearity):
    """y = exp(x) / sum(exp(x)) over the columns of a row, floored at 1e-20."""


@register("LogSoftmaxComponent")
class LogSoftmax(Nonlinearity):
    """y = x - log(sum(exp(x))) over the columns of a row."""
