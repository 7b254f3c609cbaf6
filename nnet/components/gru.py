"""The parts of gated recurrent units that feed back: their candidate activation and cell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnet.components.affine import alpha_field, update_period_field
from nnet.components.base import Updatable, check_length, recounted_average
from nnet.components.field import (
    NOT_NEGATIVE,
    POSITIVE,
    FieldError,
    Kind,
    Role,
    Setting,
    single,
    stored,
)
from nnet.components.registry import register
from nnet.components.summary import general, plain, rms, summarize_vector

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer


def _average_field(token: str, doc: str) -> Any:
    return stored(
        Kind.VECTOR,
        token,
        doc,
        default=lambda c: np.zeros(c.cell_dim, np.float32),
        role=Role.AVERAGE,
    )


def _count_field(token: str, doc: str) -> Any:
    return stored(Kind.DOUBLE, token, doc, default=0.0, role=Role.COUNT)


def _weights_field(kind: Kind, doc: str) -> Any:
    return stored(kind, "<w_h>", doc, role=Role.PARAMETER, info=lambda c: rms("w_h", c.w_h))


def _cell_dim_field() -> Any:
    return stored(Kind.INTEGER, "<CellDim>", "number of cells", key="cell-dim", check=POSITIVE)


def _repair_field(token: str, key: str, doc: str, default: float) -> Any:
    return stored(Kind.REAL, token, doc, key=key, default=single(default), check=NOT_NEGATIVE)


def _threshold_field() -> Any:
    return _repair_field(
        "<SelfRepairThreshold>",
        "self-repair-threshold",
        "mean derivative of a tanh below which it is repaired",
        0.2,
    )


def _scale_field() -> Any:
    return _repair_field(
        "<SelfRepairScale>", "self-repair-scale", "strength of self-repair; 0 for none", 1e-5
    )


def _rank_field(token: str | None, key: str, default: int) -> Any:
    return stored(
        Kind.INTEGER,
        token,
        "rank of the natural gradient",
        key=key,
        default=default,
        check=POSITIVE,
    )


class AnyGruNonlinearity(Updatable):
    """What both types share: statistics of the tanh, its self-repair, and their info."""

    averaged_over: ClassVar[Mapping[str, str]] = {"value_avg": "count", "deriv_avg": "count"}

    w_h: np.ndarray
    cell_dim: int
    value_avg: np.ndarray
    deriv_avg: np.ndarray
    self_repair_total: float
    count: float

    @property
    def output_dim(self) -> int:
        return 2 * self.cell_dim

    def check(self) -> None:
        super().check()
        for name in ("value_avg", "deriv_avg"):
            check_length(self, name, self.cell_dim, "cell-dim")

    def recount(self) -> None:
        self.value_avg = recounted_average(self.value_avg, self.count)
        self.deriv_avg = recounted_average(self.deriv_avg, self.count)

    def info_items(self) -> Iterator[str]:
        """Statistics stand before the settings of the natural gradient."""
        items = list(super().info_items())
        at = next(i for i, item in enumerate(items) if item.startswith("alpha="))
        yield from items[:at]
        if self.count > 0:
            share = self.self_repair_total / (self.count * self.cell_dim)
            yield f"count={general(self.count, 3)}"
            yield plain("self-repaired-proportion", float(share))
            yield f"value-avg={summarize_vector(self.value_avg)}"
            yield f"deriv-avg={summarize_vector(self.deriv_avg)}"
        yield from items[at:]


@register("GruNonlinearityComponent")
@dataclass(kw_only=True, eq=False)
class GruNonlinearity(AnyGruNonlinearity):
    """A GRU's candidate activation and cell (Chung et al. 2014), projected or not.

    Reads (z, r, U x, c') and, if `recurrent_dim` is below `cell_dim`, s'; c' is the previous cell
    (cell_dim wide, as z and U x), s' its projection (recurrent_dim wide, as r), which is c' itself
    otherwise; z and r are gates after their nonlinearities. Makes (h, c):

        h = tanh(U x + w_h (s' r)), c = (1 - z) h + z c'.
    """

    settings: ClassVar[tuple[Setting, ...]] = (
        Setting(
            "param-stddev",
            Kind.REAL,
            "standard deviation of the initial matrix, by default 1/sqrt(cell-dim)",
            check=NOT_NEGATIVE,
        ),
    )
    info_order: ClassVar[tuple[str, ...]] = (
        *Updatable.info_order,
        "cell_dim",
        "recurrent_dim",
        "w_h",
        "self_repair_threshold",
        "self_repair_scale",
        "alpha",
        "rank_in",
        "rank_out",
        "update_period",
    )

    cell_dim: int = _cell_dim_field()
    recurrent_dim: int = stored(
        Kind.INTEGER,
        "<RecurrentDim>",
        "columns of the state that feeds back, by default cell-dim",
        key="recurrent-dim",
        default=lambda c: c.cell_dim,
        unset=-1,
        check=POSITIVE,
    )
    w_h: np.ndarray = _weights_field(Kind.MATRIX, "matrix (cell_dim, recurrent_dim)")
    value_avg: np.ndarray = _average_field("<ValueAvg>", "mean of h (cell_dim,)")
    deriv_avg: np.ndarray = _average_field("<DerivAvg>", "mean derivative of h (cell_dim,)")
    self_repair_total: float = _count_field("<SelfRepairTotal>", "units self-repaired so far")
    count: float = _count_field("<Count>", "rows in the statistics")
    self_repair_threshold: float = _threshold_field()
    self_repair_scale: float = _scale_field()
    alpha: float = alpha_field()
    rank_in: int = _rank_field("<RankInOut>", "rank-in", 20)
    rank_out: int = _rank_field(None, "rank-out", 80)
    update_period: int = update_period_field()

    @classmethod
    def create(cls, given: Given, init: Initializer) -> GruNonlinearity:
        rows, stddev = given.fields["cell_dim"], given["param-stddev"]
        columns = given.fields.get("recurrent_dim", rows)
        stddev = 1.0 / math.sqrt(rows) if stddev is None else stddev
        return cls(w_h=init.normal(rows, columns, stddev=stddev), **given.fields)

    @property
    def is_projected(self) -> bool:
        """Whether the state that feeds back is a projection of the cell."""
        return self.recurrent_dim != self.cell_dim

    @property
    def input_dim(self) -> int:
        return sum(self.input_blocks)

    @property
    def input_blocks(self) -> tuple[int, ...]:
        """The columns of what is read, which may lie apart in memory."""
        blocks = (self.cell_dim, self.recurrent_dim, self.cell_dim, self.cell_dim)
        return (*blocks, self.recurrent_dim) if self.is_projected else blocks

    def check(self) -> None:
        super().check()
        if self.recurrent_dim > self.cell_dim:
            raise FieldError(
                "recurrent-dim",
                f"recurrent-dim (={self.recurrent_dim}) is above cell-dim (={self.cell_dim})",
            )
        if self.w_h.shape != (self.cell_dim, self.recurrent_dim):
            found = " x ".join(map(str, self.w_h.shape))
            expected = f"{self.cell_dim} x {self.recurrent_dim}"
            raise FieldError("w-h", f"the matrix w_h is {found}, expected {expected}")


@register("OutputGruNonlinearityComponent")
@dataclass(kw_only=True, eq=False)
class OutputGruNonlinearity(AnyGruNonlinearity):
    """The cell of an output-gated GRU, whose feedback is unit by unit.

    Reads (z, U x, c'), each `cell_dim` wide, z being a gate after its nonlinearity and c' the
    previous cell. Makes (h, c):

        h = tanh(U x + w_h c') with a vector w_h, c = (1 - z) h + z c'.
    """

    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("param-mean", Kind.REAL, "mean of the initial weights", 0.0),
        Setting(
            "param-stddev",
            Kind.REAL,
            "standard deviation of the initial weights",
            1.0,
            NOT_NEGATIVE,
        ),
    )
    info_order: ClassVar[tuple[str, ...]] = (
        *Updatable.info_order,
        "cell_dim",
        "w_h",
        "self_repair_threshold",
        "self_repair_scale",
        "alpha",
        "rank",
        "update_period",
    )

    cell_dim: int = _cell_dim_field()
    w_h: np.ndarray = _weights_field(Kind.VECTOR, "weights (cell_dim,)")
    value_avg: np.ndarray = _average_field("<ValueAvg>", "mean of h (cell_dim,)")
    deriv_avg: np.ndarray = _average_field("<DerivAvg>", "mean derivative of h (cell_dim,)")
    self_repair_total: float = _count_field("<SelfRepairTotal>", "units self-repaired so far")
    count: float = _count_field("<Count>", "rows in the statistics")
    self_repair_threshold: float = _threshold_field()
    self_repair_scale: float = _scale_field()
    alpha: float = alpha_field()
    rank: int = _rank_field("<Rank>", "rank", 8)
    update_period: int = update_period_field(10)

    @classmethod
    def create(cls, given: Given, init: Initializer) -> OutputGruNonlinearity:
        weights = init.normal(
            given.fields["cell_dim"], stddev=given["param-stddev"], mean=given["param-mean"]
        )
        return cls(w_h=weights, **given.fields)

    @property
    def input_dim(self) -> int:
        return sum(self.input_blocks)

    @property
    def input_blocks(self) -> tuple[int, ...]:
        """The columns of what is read, which may lie apart in memory."""
        return (self.cell_dim,) * 3

    def check(self) -> None:
        super().check()
        check_length(self, "w_h", self.cell_dim, "cell-dim")
