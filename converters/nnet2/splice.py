"""Components of nnet2 that look at several frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from nnet.components.field import (
    NOT_NEGATIVE,
    POSITIVE,
    FieldError,
    Kind,
    Old,
    Presence,
    Setting,
    stored,
)
from nnet.converters.legacy import Rows
from nnet.converters.nnet2.base import TYPES, Nnet2Component
from nnet.converters.nnet2.nonlinear import dim_field

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer

LARGEST_CONTEXT = 10_000


def _between(component: Any) -> tuple[int, ...]:
    """All offsets from the left context to the right one, if both are given and sensible."""
    left, right = component.left_context, component.right_context
    if left is None or right is None or not 0 <= left + right <= LARGEST_CONTEXT:
        return ()
    return tuple(range(-left, right + 1))


OLD_LEFT_CONTEXT = Old("<LeftContext>", Kind.INTEGER, sets=("left_context",))
OLD_RIGHT_CONTEXT = Old("<RightContext>", Kind.INTEGER, sets=("right_context",))


def _context_field() -> Any:
    return stored(
        Kind.INTEGERS,
        "<Context>",
        "frames that are read, relative to the output frame",
        key="context",
        default=_between,
        presence=Presence.SINCE,
    )


@dataclass(kw_only=True, eq=False)
class Splicing(Nnet2Component):
    """A component that reads frames at the offsets `context`.

    `left_context` and `right_context` are how old files and configs may give it.
    """

    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("left-context", Kind.INTEGER, "frames before", check=NOT_NEGATIVE),
        Setting("right-context", Kind.INTEGER, "frames after", check=NOT_NEGATIVE),
    )

    left_context: int | None = None
    right_context: int | None = None
    context: tuple[int, ...]

    @classmethod
    def create(cls, given: Given, init: Initializer) -> Self:
        left, right = given["left-context"], given["right-context"]
        return cls(left_context=left, right_context=right, **given.fields)

    def check(self) -> None:
        super().check()
        offsets = self.context
        if not offsets or list(offsets) != sorted(set(offsets)) or offsets[0] > 0 > offsets[-1]:
            raise FieldError(
                "context",
                f"context (={','.join(map(str, offsets))}) must be increasing frame offsets from "
                "0 or less to 0 or more (or left-context and right-context are missing)",
            )
        if offsets[-1] - offsets[0] > LARGEST_CONTEXT:
            raise FieldError("context", f"context spans more than {LARGEST_CONTEXT} frames")

    @property
    def offsets(self) -> tuple[int, ...]:
        return self.context

    def spliced(self, rows: Rows) -> list[Rows]:
        """For each offset the rows that the output frames read there."""
        first, last = self.context[0], self.context[-1]
        count = max(0, len(rows) - (last - first))
        return [rows[offset - first : offset - first + count] for offset in self.context]


@TYPES.register("SpliceComponent")
@dataclass(kw_only=True, eq=False)
class Splice(Splicing):
    """Puts frames side by side; the last `const_component_dim` columns only once."""

    input_dim: int = stored(
        Kind.INTEGER, "<InputDim>", "number of columns read", key="input-dim", check=POSITIVE
    )
    old_left_context = OLD_LEFT_CONTEXT
    old_right_context = OLD_RIGHT_CONTEXT
    context: tuple[int, ...] = _context_field()
    const_component_dim: int = stored(
        Kind.INTEGER,
        "<ConstComponentDim>",
        "columns at the end that are the same in all frames of an utterance",
        key="const-component-dim",
        default=0,
        check=NOT_NEGATIVE,
    )

    def check(self) -> None:
        super().check()
        if self.const_component_dim >= self.input_dim:
            raise FieldError(
                "const-component-dim",
                f"const-component-dim (={self.const_component_dim}) must be below input-dim "
                f"(={self.input_dim})",
            )

    @property
    def output_dim(self) -> int:
        spliced = self.input_dim - self.const_component_dim
        return spliced * len(self.context) + self.const_component_dim

    def forward(self, rows: Rows) -> Rows:
        dim = self.input_dim - self.const_component_dim
        parts = [part[:, :dim] for part in self.spliced(rows)]
        return np.concatenate((*parts, rows[: len(parts[0]), dim:]), axis=1)


@TYPES.register("SpliceMaxComponent")
@dataclass(kw_only=True, eq=False)
class SpliceMax(Splicing):
    """The largest value of each column over the frames that are read."""

    dim: int = dim_field()
    old_left_context = OLD_LEFT_CONTEXT
    old_right_context = OLD_RIGHT_CONTEXT
    context: tuple[int, ...] = _context_field()

    @property
    def input_dim(self) -> int:
        return self.dim

    @property
    def output_dim(self) -> int:
        return self.dim

    def forward(self, rows: Rows) -> Rows:
        return np.max(self.spliced(rows), axis=0)
