"""Components that zero or scale parts of their input at random while training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nnet.components.base import Component, check_multiple
from nnet.components.field import (
    NOT_NEGATIVE,
    POSITIVE,
    PROPORTION,
    Check,
    FieldError,
    Kind,
    Presence,
    stored,
)
from nnet.components.registry import register
from nnet.components.summary import plain
from nnet.components.window import TimeWindow


class RandomComponent(Component):
    """A component that acts at random unless it is in test mode."""

    test_mode: bool


@dataclass(kw_only=True, eq=False)
class _RandomColumns(RandomComponent):
    """A random component that reads and makes `dim` columns."""

    dim: int = stored(Kind.INTEGER, "<Dim>", "number of columns", key="dim", check=POSITIVE)

    @property
    def input_dim(self) -> int:
        return self.dim

    @property
    def output_dim(self) -> int:
        return self.dim


@register("DropoutComponent")
@dataclass(kw_only=True, eq=False)
class Dropout(_RandomColumns):
    """Zeroes elements (or whole rows) at random; in test mode scales by 1 - proportion."""

    info_order: ClassVar[tuple[str, ...]] = ("dim", "dropout_proportion", "dropout_per_frame")

    dropout_proportion: float = stored(
        Kind.REAL,
        "<DropoutProportion>",
        "share of the elements that is zeroed",
        key="dropout-proportion",
        check=PROPORTION,
    )
    dropout_per_frame: bool = stored(
        Kind.BOOLEAN,
        "<DropoutPerFrame>",
        "zero whole rows",
        key="dropout-per-frame",
        default=False,
        presence=Presence.SINCE,
    )
    test_mode: bool = stored(
        Kind.BOOLEAN,
        "<TestMode>",
        "scale by 1 - dropout-proportion instead of zeroing",
        key="test-mode",
        default=False,
        presence=Presence.SINCE,
    )


@register("GeneralDropoutComponent")
@dataclass(kw_only=True, eq=False)
class GeneralDropout(_RandomColumns):
    """Dropout whose masks are shared over blocks of columns and over time.

    Masks are constant over `time_period` frames (the whole sequence if 0). They are scaled to
    mean 1, so that test mode does nothing. With `continuous` they are uniform on
    [1 - 2 p, 1 + 2 p], p being the dropout proportion. With `specaugment_max_proportion` they
    zero bands of neighbouring columns instead (SpecAugment's frequency masking).
    """

    info_order: ClassVar[tuple[str, ...]] = (
        "dim",
        "block_dim",
        "dropout_proportion",
        "continuous",
        "specaugment_max_proportion",
        "specaugment_max_regions",
        "time_period",
    )

    block_dim: int = stored(
        Kind.INTEGER,
        "<BlockDim>",
        "columns a block; the blocks share a mask",
        key="block-dim",
        default=lambda c: c.dim,
        check=POSITIVE,
    )
    time_period: int = stored(
        Kind.INTEGER,
        "<TimePeriod>",
        "frames that share a mask; 0 for the whole sequence",
        key="time-period",
        default=0,
        check=NOT_NEGATIVE,
        shown=False,
    )
    dropout_proportion: float = stored(
        Kind.REAL,
        "<DropoutProportion>",
        "share of the elements that is zeroed",
        key="dropout-proportion",
        default=0.5,
        check=PROPORTION,
    )
    specaugment_max_proportion: float = stored(
        Kind.REAL,
        "<SpecAugmentMaxProportion>",
        "largest share of the columns that is zeroed in bands; 0 for ordinary dropout",
        key="specaugment-max-proportion",
        default=0.0,
        check=PROPORTION,
        presence=Presence.NONDEFAULT,
        shown=False,
    )
    specaugment_max_regions: int = stored(
        Kind.INTEGER,
        "<SpecAugmentMaxRegions>",
        "largest number of zeroed bands; kept only with specaugment-max-proportion",
        key="specaugment-max-regions",
        default=1,
        check=Check("at least 1", lambda value: value >= 1),
        presence=Presence.NONDEFAULT,
        info=lambda c: (
            plain("specaugment-max-regions", c.specaugment_max_regions)
            if c.specaugment_max_proportion
            else ""
        ),
    )
    test_mode: bool = stored(
        Kind.FLAG,
        "<TestMode>",
        "pass the input on unchanged",
        key="test-mode",
        default=False,
        presence=Presence.NONDEFAULT,
    )
    continuous: bool = stored(
        Kind.FLAG,
        "<Continuous>",
        "scale by numbers between 1 - 2 p and 1 + 2 p instead of zeroing",
        key="continuous",
        default=False,
        presence=Presence.NONDEFAULT,
        shown=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.specaugment_max_proportion == 0:
            self.specaugment_max_regions = 1

    def check(self) -> None:
        super().check()
        check_multiple(self, "dim", "block_dim")
        if self.continuous and self.specaugment_max_proportion != 0:
            raise FieldError(
                "continuous", "continuous and specaugment-max-proportion exclude each other"
            )


@register("SpecAugmentTimeMaskComponent")
@dataclass(kw_only=True, eq=False)
class SpecAugmentTimeMask(_RandomColumns):
    """Zeroes stretches of frames at random (SpecAugment's time masking); nothing in test mode."""

    info_order: ClassVar[tuple[str, ...]] = ("dim", "zeroed_proportion", "time_mask_max_frames")

    zeroed_proportion: float = stored(
        Kind.REAL,
        "<ZeroedProportion>",
        "share of the frames that is zeroed",
        key="zeroed-proportion",
        default=0.25,
        check=Check("above 0 and below 1", lambda value: 0 < value < 1),
    )
    time_mask_max_frames: int = stored(
        Kind.INTEGER,
        "<TimeMaskMaxFrames>",
        "longest zeroed stretch, in frames",
        key="time-mask-max-frames",
        default=10,
        check=Check("at least 2", lambda value: value >= 2),
    )
    test_mode: bool = stored(
        Kind.FLAG,
        "<TestMode>",
        "pass the input on unchanged",
        default=False,
        presence=Presence.NONDEFAULT,
    )


@register("DropoutMaskComponent")
@dataclass(kw_only=True, eq=False)
class DropoutMask(RandomComponent):
    """A row of zeros and ones, each zero with the dropout proportion; it reads no input.

    Of two or three columns (the masks of an LSTM's gates) the first two are never both zero unless
    the proportion is above one half. With `continuous` they are uniform on [1 - 2 p, 1 + 2 p], p
    being the dropout proportion. In test mode all are 1 - p, or 1 if `continuous`.
    """

    info_order: ClassVar[tuple[str, ...]] = ("output_dim", "dropout_proportion", "continuous")

    output_dim: int = stored(
        Kind.INTEGER, "<OutputDim>", "number of columns", key="output-dim", check=POSITIVE
    )
    dropout_proportion: float = stored(
        Kind.REAL,
        "<DropoutProportion>",
        "share of the elements that is zero",
        key="dropout-proportion",
        default=0.5,
        check=PROPORTION,
    )
    test_mode: bool = stored(
        Kind.BOOLEAN,
        "<TestMode>",
        "make 1 - dropout-proportion instead of zeros and ones",
        key="test-mode",
        default=False,
        presence=Presence.SINCE,
    )
    continuous: bool = stored(
        Kind.FLAG,
        "<Continuous>",
        "numbers between 1 - 2 p and 1 + 2 p instead of zeros and ones",
        key="continuous",
        default=False,
        presence=Presence.NONDEFAULT,
        shown=False,
    )

    @property
    def input_dim(self) -> int:
        return self.output_dim

    @property
    def window(self) -> TimeWindow:
        return TimeWindow((), ())
