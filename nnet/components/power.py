"""Functions that nnet3 has no component for; models with them cannot be loaded by Kaldi.

Old networks of nnet2 have them, and posteriors that are sums need the logarithm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nnet.components.base import Component
from nnet.components.field import NOT_NEGATIVE, POSITIVE, Kind, stored
from nnet.components.registry import register


@dataclass(kw_only=True, eq=False)
class OwnComponent(Component):
    """A component type that Kaldi does not know, of `dim` columns."""

    in_kaldi = False
    info_order: ClassVar[tuple[str, ...]] = ("dim",)

    dim: int = stored(Kind.INTEGER, "<Dim>", "number of columns", key="dim", check=POSITIVE)

    @property
    def input_dim(self) -> int:
        return self.dim

    @property
    def output_dim(self) -> int:
        return self.dim


@register("PowerComponent")
@dataclass(kw_only=True, eq=False)
class Power(OwnComponent):
    """y = |x| ** power."""

    info_order: ClassVar[tuple[str, ...]] = ("dim", "power")

    power: float = stored(
        Kind.REAL, "<Power>", "the exponent", key="power", default=2.0, check=NOT_NEGATIVE
    )


@register("LogComponent")
@dataclass(kw_only=True, eq=False)
class Log(OwnComponent):
    """y = log(max(x, floor))."""

    info_order: ClassVar[tuple[str, ...]] = ("dim", "floor")

    floor: float = stored(
        Kind.REAL,
        "<Floor>",
        "smallest number whose logarithm is taken",
        key="floor",
        default=1e-20,
        check=POSITIVE,
    )
