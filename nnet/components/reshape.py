"""Components that rearrange, sum or pass on columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nnet.components.base import Component, check_multiple
from nnet.components.field import (
    POSITIVE,
    REQUIRED,
    Check,
    FieldError,
    Kind,
    Old,
    Presence,
    Setting,
    stored,
)
from nnet.components.registry import register

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer

SHOWN_COLUMNS = 5


@register("NoOpComponent")
@dataclass(kw_only=True, eq=False)
class NoOp(Component):
    """y = x; the derivative is multiplied by `backprop_scale`."""

    info_order: ClassVar[tuple[str, ...]] = ("dim", "backprop_scale")

    dim: int = stored(Kind.INTEGER, "<Dim>", "number of columns", key="dim", check=POSITIVE)
    old_value_avg = Old("<ValueAvg>", Kind.VECTOR)
    old_deriv_avg = Old("<DerivAvg>", Kind.VECTOR)
    old_count = Old("<Count>", Kind.REAL)
    old_oderiv_rms = Old("<OderivRms>", Kind.VECTOR)
    old_oderiv_count = Old("<OderivCount>", Kind.REAL)
    old_self_repaired = Old("<NumDimsSelfRepaired>", Kind.REAL)
    old_processed = Old("<NumDimsProcessed>", Kind.REAL)
    backprop_scale: float = stored(
        Kind.REAL,
        "<BackpropScale>",
        "factor on the derivative that goes back",
        key="backprop-scale",
        default=1.0,
        presence=Presence.SINCE,
        shown=False,
    )

    @property
    def input_dim(self) -> int:
        return self.dim

    @property
    def output_dim(self) -> int:
        return self.dim


@dataclass(kw_only=True, eq=False)
class Blocks(Component):
    """A component whose number of columns read is a multiple of the number made."""

    input_dim: int = stored(
        Kind.INTEGER, "<InputDim>", "number of columns read", key="input-dim", check=POSITIVE
    )
    output_dim: int = stored(
        Kind.INTEGER, "<OutputDim>", "number of columns made", key="output-dim", check=POSITIVE
    )

    def check(self) -> None:
        super().check()
        check_multiple(self, "input_dim", "output_dim")

    @property
    def num_blocks(self) -> int:
        """Columns read for one that is made."""
        return self.input_dim // self.output_dim


@register("PnormComponent")
class Pnorm(Blocks):
    """The 2-norm of each group of input_dim / output_dim neighbouring columns."""


@register("SumGroupComponent")
@dataclass(kw_only=True, eq=False)
class SumGroup(Component):
    """Sums groups of neighbouring columns; group i has `sizes[i]` columns."""

    settings: ClassVar[tuple[Setting, ...]] = (
        Setting(
            "sizes",
            Kind.INTEGERS,
            "columns of each group",
            check=Check("positive integers", lambda value: min(value) > 0),
        ),
        Setting(
            "input-dim", Kind.INTEGER, "number of columns read", REQUIRED, POSITIVE, unless="sizes"
        ),
        Setting(
            "output-dim",
            Kind.INTEGER,
            "number of groups of equal size",
            REQUIRED,
            POSITIVE,
            unless="sizes",
        ),
    )

    sizes: tuple[int, ...] = stored(
        Kind.INTEGERS,
        "<Sizes>",
        "columns of each group",
        check=Check("positive integers", lambda value: len(value) > 0 and min(value) > 0),
    )

    @classmethod
    def create(cls, given: Given, init: Initializer) -> SumGroup:
        if given["sizes"] is not None:
            return cls(sizes=given["sizes"])
        input_dim, output_dim = given["input-dim"], given["output-dim"]
        if input_dim % output_dim != 0:
            raise FieldError(
                "output-dim",
                f"input-dim (={input_dim}) must be a multiple of output-dim (={output_dim})",
            )
        return cls(sizes=(input_dim // output_dim,) * output_dim)

    @property
    def input_dim(self) -> int:
        return sum(self.sizes)

    @property
    def output_dim(self) -> int:
        return len(self.sizes)


def _column_map_info(component: Permute) -> str:
    shown = "".join(f"{column} " for column in component.column_map[:SHOWN_COLUMNS])
    more = "... " if len(component.column_map) > SHOWN_COLUMNS else ""
    return f"dim={component.dim} , column-map=[ {shown}{more}]"


def _is_permutation(columns: tuple[int, ...]) -> bool:
    return len(columns) > 0 and sorted(columns) == list(range(len(columns)))


@register("PermuteComponent")
@dataclass(kw_only=True, eq=False)
class Permute(Component):
    """Column i of the output is column `column_map[i]` of the input."""

    info_order: ClassVar[tuple[str, ...]] = ("column_map",)

    column_map: tuple[int, ...] = stored(
        Kind.INTEGERS,
        "<ColumnMap>",
        "the input column of each output column",
        key="column-map",
        check=Check("a permutation of 0, 1, ...", _is_permutation),
        info=_column_map_info,
    )

    @property
    def dim(self) -> int:
        """Number of columns."""
        return len(self.column_map)

    @property
    def input_dim(self) -> int:
        return self.dim

    @property
    def output_dim(self) -> int:
        return self.dim


@register("ElementwiseProductComponent")
class ElementwiseProduct(Blocks):
    """The product, element by element, of input_dim / output_dim blocks of columns."""

    @property
    def input_blocks(self) -> tuple[int, ...]:
        """The columns of the factors, which may lie apart in memory."""
        return (self.output_dim,) * self.num_blocks

    def check(self) -> None:
        super().check()
        if self.num_blocks == 1:
            raise FieldError("output-dim", f"output-dim (={self.output_dim}) equals input-dim")


@register("SumBlockComponent")
@dataclass(kw_only=True, eq=False)
class SumBlock(Blocks):
    """The sum of input_dim / output_dim blocks of columns, times `factor`."""

    info_order: ClassVar[tuple[str, ...]] = (*Component.info_order, "factor")

    factor: float = stored(Kind.REAL, "<Scale>", "factor on the sum", key="scale", default=1.0)


@register("DistributeComponent")
class Distribute(Blocks):
    """Row x is block x mod b of the b blocks of columns of the input's row x div b."""

    def input_place(self, x: int) -> tuple[int, int]:
        row, block = divmod(x, self.num_blocks)
        return row, block * self.output_dim
