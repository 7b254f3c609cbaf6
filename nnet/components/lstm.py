"""The part of an LSTM that works unit by unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnet.components.base import Updatable, check_length, recounted_average
from nnet.components.field import (
    NOT_NEGATIVE,
    POSITIVE,
    REQUIRED,
    Check,
    FieldError,
    Kind,
    Presence,
    Role,
    Setting,
    single,
    stored,
)
from nnet.components.registry import register
from nnet.components.summary import general, plain, rms, summarize_vector

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer

UNITS = ("i_t_sigmoid", "f_t_sigmoid", "c_t_tanh", "o_t_sigmoid", "m_t_tanh")
"""The five nonlinearities, in the order of their statistics."""

TANHS = (2, 4)


def _per_unit(component: Any) -> np.ndarray:
    return np.zeros((len(UNITS), component.cell_dim), np.float32)


def _between(low: float, high: float) -> Check:
    return Check(f"between {low:g} and {high:g}", lambda value: low <= value <= single(high))


@register("LstmNonlinearityComponent")
@dataclass(kw_only=True, eq=False)
class LstmNonlinearity(Updatable):
    """An LSTM's gates and cell with peepholes (Sak et al., Interspeech 2014).

    Reads (i, f, c, o, previous cell), each `cell_dim` wide, before their nonlinearities, and with
    `use_dropout` three columns that multiply the gates i, f and o. Makes (cell, output):

        i = sigmoid(i + w_ic c'), f = sigmoid(f + w_fc c'), cell = f c' + i tanh(c),
        o = sigmoid(o + w_oc cell), output = o tanh(cell).
    """

    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("cell-dim", Kind.INTEGER, "number of cells", REQUIRED, POSITIVE),
        Setting(
            "param-stddev",
            Kind.REAL,
            "standard deviation of the initial peephole weights",
            1.0,
            NOT_NEGATIVE,
        ),
        Setting(
            "tanh-self-repair-threshold",
            Kind.REAL,
            "mean derivative of a tanh below which it is repaired",
            single(0.2),
            _between(0, 1),
        ),
        Setting(
            "sigmoid-self-repair-threshold",
            Kind.REAL,
            "mean derivative of a sigmoid below which it is repaired",
            single(0.05),
            _between(0, 0.25),
        ),
        Setting(
            "self-repair-scale",
            Kind.REAL,
            "strength of self-repair; 0 for none",
            single(1e-5),
            _between(0, 0.1),
        ),
    )
    info_order: ClassVar[tuple[str, ...]] = (
        *Updatable.info_order,
        "cell_dim",
        "use_dropout",
        "weights",
    )

    averaged_over: ClassVar[Mapping[str, str]] = {
        "value_avg": "count",
        "deriv_avg": "count",
        "self_repair_prob": "count",
    }

    weights: np.ndarray = stored(
        Kind.MATRIX,
        "<Params>",
        "peephole weights w_ic, w_fc and w_oc (3, cell_dim)",
        role=Role.PARAMETER,
        info=lambda c: ", ".join(
            rms(name, row) for name, row in zip(("w_ic", "w_fc", "w_oc"), c.weights, strict=True)
        ),
    )
    value_avg: np.ndarray = stored(
        Kind.MATRIX,
        "<ValueAvg>",
        "mean output of each nonlinearity (5, cell_dim)",
        default=_per_unit,
        role=Role.AVERAGE,
    )
    deriv_avg: np.ndarray = stored(
        Kind.MATRIX,
        "<DerivAvg>",
        "mean derivative of each nonlinearity (5, cell_dim)",
        default=_per_unit,
        role=Role.AVERAGE,
    )
    self_repair_config: np.ndarray = stored(
        Kind.VECTOR,
        "<SelfRepairConfig>",
        "thresholds of the five nonlinearities' mean derivatives, then their scales (10,)",
        role=Role.FIXED,
    )
    self_repair_prob: np.ndarray = stored(
        Kind.VECTOR,
        "<SelfRepairProb>",
        "share of the units that were self-repaired (5,)",
        default=lambda c: np.zeros(len(UNITS), np.float32),
        role=Role.AVERAGE,
    )
    use_dropout: bool = stored(
        Kind.BOOLEAN,
        "<UseDropout>",
        "whether three columns of dropout masks are read",
        key="use-dropout",
        default=False,
        presence=Presence.NONDEFAULT,
    )
    count: float = stored(
        Kind.DOUBLE, "<Count>", "rows in the statistics", default=0.0, role=Role.COUNT
    )

    @classmethod
    def create(cls, given: Given, init: Initializer) -> LstmNonlinearity:
        config = np.full(10, given["sigmoid-self-repair-threshold"], np.float32)
        config[list(TANHS)] = given["tanh-self-repair-threshold"]
        config[5:] = given["self-repair-scale"]
        weights = init.normal(3, given["cell-dim"], stddev=given["param-stddev"])
        return cls(weights=weights, self_repair_config=config, **given.fields)

    @property
    def cell_dim(self) -> int:
        """Number of cells."""
        return int(self.weights.shape[1])

    @property
    def input_dim(self) -> int:
        return 5 * self.cell_dim + (3 if self.use_dropout else 0)

    @property
    def input_blocks(self) -> tuple[int, ...]:
        """The columns of gates, previous cell and dropout masks, which may lie apart in memory."""
        blocks = (4 * self.cell_dim, self.cell_dim)
        return (*blocks, 3) if self.use_dropout else blocks

    @property
    def output_dim(self) -> int:
        return 2 * self.cell_dim

    def check(self) -> None:
        super().check()
        if self.weights.shape[0] != 3 or self.cell_dim == 0:
            found = " x ".join(map(str, self.weights.shape))
            raise FieldError("weights", f"the peephole weights are {found}, expected three rows")
        for name in ("value_avg", "deriv_avg"):
            shape = getattr(self, name).shape
            if shape != (len(UNITS), self.cell_dim):
                found = " x ".join(map(str, shape))
                key = name.replace("_", "-")
                raise FieldError(key, f"{key} is {found}, expected 5 x cell-dim (={self.cell_dim})")
        check_length(self, "self_repair_config", 10, "five thresholds and five scales")
        check_length(self, "self_repair_prob", 5, "one for each nonlinearity")

    def recount(self) -> None:
        self.value_avg = recounted_average(self.value_avg, self.count)
        self.deriv_avg = recounted_average(self.deriv_avg, self.count)
        units = self.count * self.cell_dim
        self.self_repair_prob = recounted_average(self.self_repair_prob, units)

    def info_items(self) -> Iterator[str]:
        yield from super().info_items()
        if self.count > 0:
            yield f"count={general(self.count, 3)}"
        for number, name in enumerate(UNITS):
            parts = [
                plain("self-repair-lower-threshold", float(self.self_repair_config[number])),
                plain("self-repair-scale", float(self.self_repair_config[number + 5])),
            ]
            if self.count != 0:
                parts += [
                    plain("self-repaired-proportion", float(self.self_repair_prob[number])),
                    f"value-avg={summarize_vector(self.value_avg[number])}",
                    f"deriv-avg={summarize_vector(self.deriv_avg[number])}",
                ]
            yield f"{name}={{ {', '.join(parts)} }}"
