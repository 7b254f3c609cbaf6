"""Components of nnet2 that act at random, always: nnet2 has no test mode."""

from __future__ import annotations

from dataclasses import dataclass

from nnet.components.field import PROPORTION, Kind, stored
from nnet.converters.legacy import Rows
from nnet.converters.nnet2.base import TYPES
from nnet.converters.nnet2.nonlinear import SameDim


@TYPES.register("DropoutComponent")
@dataclass(kw_only=True, eq=False)
class Dropout(SameDim):
    """Scales a share of the elements by `dropout_scale`, the others so that the mean stays."""

    dropout_scale: float = stored(
        Kind.REAL,
        "<DropoutScale>",
        "factor of the elements that are dropped",
        key="dropout-scale",
        default=0.0,
        check=PROPORTION,
    )
    dropout_proportion: float = stored(
        Kind.REAL,
        "<DropoutProportion>",
        "share of the elements that is dropped",
        key="dropout-proportion",
        default=0.5,
        check=PROPORTION,
    )

    def forward(self, rows: Rows) -> Rows:
        return rows


@TYPES.register("AdditiveNoiseComponent")
@dataclass(kw_only=True, eq=False)
class AdditiveNoise(SameDim):
    """Adds `stddev` times a number that is uniform on [0, 1] to each element."""

    stddev: float = stored(
        Kind.REAL, "<Stddev>", "the largest number that is added", key="stddev", default=1.0
    )

    @property
    def mean(self) -> float:
        """The mean of the numbers that are added."""
        return self.stddev / 2

    def forward(self, rows: Rows) -> Rows:
        return rows + self.mean
