"""Components that change nothing on the way forward but the derivative on the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from nnet.components.base import Component
from nnet.components.field import (
    NOT_NEGATIVE,
    POSITIVE,
    Kind,
    Presence,
    Role,
    single,
    stored,
)
from nnet.components.registry import register
from nnet.components.summary import general


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


class _SameDim(Component):
    dim: int

    @property
    def input_dim(self) -> int:
        return self.dim

    @property
    def output_dim(self) -> int:
        return self.dim


def _count_field(token: str, doc: str) -> Any:
    return stored(Kind.DOUBLE, token, doc, default=0.0, role=Role.COUNT)


@register("BackpropTruncationComponent")
@dataclass(kw_only=True, eq=False)
class BackpropTruncation(_SameDim):
    """y = scale x; stands in recurrences, where it limits the derivative.

    A row's derivative is scaled down to the norm `clipping_threshold`. At frames where the
    recurrence steps over a multiple of `zeroing_interval` (moved by the number of the sequence), it
    is set to zero if its norm is above `zeroing_threshold`.
    """

    info_order: ClassVar[tuple[str, ...]] = (
        "dim",
        "scale_factor",
        "count",
        "recurrence_interval",
        "clipping_threshold",
        "clipped_proportion",
        "zeroing_threshold",
        "zeroing_interval",
        "zeroed_proportion",
        "count_zeroing_boundaries",
    )

    dim: int = stored(Kind.INTEGER, "<Dim>", "number of columns", key="dim", check=POSITIVE)
    scale_factor: float = stored(
        Kind.REAL,
        "<Scale>",
        "factor on values and derivatives",
        key="scale",
        default=1.0,
        check=POSITIVE,
        presence=Presence.SINCE,
    )
    clipping_threshold: float = stored(
        Kind.REAL,
        "<ClippingThreshold>",
        "largest norm of a row's derivative; 0 for no limit",
        key="clipping-threshold",
        default=30.0,
        check=NOT_NEGATIVE,
    )
    zeroing_threshold: float = stored(
        Kind.REAL,
        "<ZeroingThreshold>",
        "norm above which a row's derivative is zeroed at boundaries; 0 for no limit",
        key="zeroing-threshold",
        default=15.0,
        check=NOT_NEGATIVE,
    )
    zeroing_interval: int = stored(
        Kind.INTEGER,
        "<ZeroingInterval>",
        "frames between boundaries",
        key="zeroing-interval",
        default=20,
        check=POSITIVE,
    )
    recurrence_interval: int = stored(
        Kind.INTEGER,
        "<RecurrenceInterval>",
        "frames that the recurrence steps over: the delay",
        key="recurrence-interval",
        default=1,
        check=POSITIVE,
    )
    num_clipped: float = _count_field("<NumElementsClipped>", "rows whose derivative was clipped")
    num_zeroed: float = _count_field("<NumElementsZeroed>", "rows whose derivative was zeroed")
    count: float = stored(
        Kind.DOUBLE,
        "<NumElementsProcessed>",
        "rows so far",
        default=0.0,
        role=Role.COUNT,
        info=lambda c: f"count={general(c.count, 3)}",
    )
    count_zeroing_boundaries: float = stored(
        Kind.DOUBLE,
        "<NumZeroingBoundaries>",
        "rows at boundaries so far",
        default=0.0,
        role=Role.COUNT,
        info=lambda c: f"count-zeroing-boundaries={int(c.count_zeroing_boundaries)}",
    )

    @property
    def clipped_proportion(self) -> float:
        return _share(self.num_clipped, self.count)

    @property
    def zeroed_proportion(self) -> float:
        return _share(self.num_zeroed, self.count_zeroing_boundaries)


@register("ClipGradientComponent")
@dataclass(kw_only=True, eq=False)
class ClipGradient(_SameDim):
    """y = x; the derivative is clipped, by rows or by elements.

    With self-repair, when too many rows were clipped (only then by norm), large inputs are pushed
    towards `self_repair_target`.
    """

    info_order: ClassVar[tuple[str, ...]] = (
        "dim",
        "norm_based_clipping",
        "clipping_threshold",
        "clipped_proportion",
    )
    repair_info: ClassVar[tuple[str, ...]] = (
        "self_repair_clipped_proportion_threshold",
        "self_repair_target",
        "self_repair_scale",
    )

    dim: int = stored(Kind.INTEGER, "<Dim>", "number of columns", key="dim", check=POSITIVE)
    clipping_threshold: float = stored(
        Kind.REAL,
        "<ClippingThreshold>",
        "largest norm of a row's derivative, or largest absolute value of an element's; with 0 no "
        "derivative goes back",
        key="clipping-threshold",
        default=15.0,
        check=NOT_NEGATIVE,
    )
    norm_based_clipping: bool = stored(
        Kind.BOOLEAN,
        "<NormBasedClipping>",
        "scale rows down to the threshold, rather than cut elements off",
        key="norm-based-clipping",
        default=False,
    )
    self_repair_clipped_proportion_threshold: float = stored(
        Kind.REAL,
        "<SelfRepairClippedProportionThreshold>",
        "share of clipped rows above which there is self-repair",
        key="self-repair-clipped-proportion-threshold",
        default=single(0.01),
        missing=1.0,
        check=NOT_NEGATIVE,
        presence=Presence.SINCE,
    )
    self_repair_target: float = stored(
        Kind.REAL,
        "<SelfRepairTarget>",
        "absolute value of the input below which there is no self-repair",
        key="self-repair-target",
        default=0.0,
        check=NOT_NEGATIVE,
        presence=Presence.SINCE,
    )
    self_repair_scale: float = stored(
        Kind.REAL,
        "<SelfRepairScale>",
        "strength of self-repair, relative to the derivative and the share of clipped rows",
        key="self-repair-scale",
        default=1.0,
        missing=0.0,
        check=NOT_NEGATIVE,
        presence=Presence.SINCE,
    )
    num_clipped: int = stored(
        Kind.INTEGER, "<NumElementsClipped>", "rows that were clipped", default=0, role=Role.COUNT
    )
    count: int = stored(
        Kind.INTEGER, "<NumElementsProcessed>", "rows so far", default=0, role=Role.COUNT
    )
    num_self_repaired: int = stored(
        Kind.INTEGER,
        "<NumSelfRepaired>",
        "minibatches with self-repair",
        default=0,
        presence=Presence.SINCE,
    )
    num_backpropped: int = stored(
        Kind.INTEGER,
        "<NumBackpropped>",
        "minibatches so far",
        default=0,
        presence=Presence.SINCE,
    )

    @property
    def clipped_proportion(self) -> float:
        return _share(self.num_clipped, self.count)

    def info_names(self) -> tuple[str, ...]:
        return (*self.info_order, *self.repair_info) if self.self_repair_scale else self.info_order

    def scale(self, factor: float) -> None:
        """Scales the counts, which are integers, by cutting off as nnet3 does."""
        self.count = int(self.count * factor)
        self.num_clipped = int(self.num_clipped * factor)
