"""What every operation of a plan says of itself: what it reads, and how its rows depend on that.

The analyses of a plan (layout, loops, tiles, cost, dump) ask this and nothing else, so that they
hold for an operation that they do not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol, Self, TypeVar

from nnet.components.frames import Frames
from nnet.plan.times import TimeMap

Value = int
"""A value is named by the position of the operation that makes it."""


@dataclass(frozen=True)
class Rows:
    """Rows of `value` as seen through `maps`, times `scale`, columns `offset` .. `offset + dim`.

    Attributes:
        dim: 0 for all columns (`Plan.reads` has their number).
        window: of an operation on windows, the component whose window around a row is read.
        into: the first column of the result that is made of these, each of one; None if every
            column of the result is made of all of them.
    """

    value: Value
    maps: tuple[TimeMap, ...] = ()
    scale: float = 1.0
    offset: int = 0
    dim: int = 0
    window: str = ""
    into: int | None = 0

    def renamed(self, names: Mapping[Value, Value]) -> Self:
        return replace(self, value=names[self.value])


@dataclass(frozen=True)
class Source:
    """An operand: the rows of `value` at the operation's own times."""

    value: Value

    def renamed(self, names: Mapping[Value, Value]) -> Source:
        return Source(names[self.value])


class TimeSet(Protocol):
    """A set of times: `nnet.plan.times.Times`, or `Frames` where rows are worked out as bits."""

    def difference(self, other: Self) -> Self: ...

    def residue(self, remainder: int, modulus: int) -> Self: ...


AnyTimes = TypeVar("AnyTimes", bound=TimeSet)

Defined = Callable[[Value, AnyTimes], AnyTimes]
"""Those of some times at which a value can be computed."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What every operation has: the columns of its result, and whom it was made for.

    Attributes:
        reads: names of the fields that hold operands: one, or a tuple of them.
        names: names of the fields that hold the name of a component, or ''; the first is of the
            one that the operation applies to the rows that it reads, if it applies one.
        applies: whether it applies a component.
        looks: whether its rows are rows of its only operand (and columns of it), so that nothing
            is computed for them.
        side_by_side: whether its columns are those of its operands, one after the other.
        whole: whether every operand serves all rows. If not, `parts` says which.
        carries: whether what it reads may be made by a later operation.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    names: ClassVar[tuple[str, ...]] = ()
    applies: ClassVar[bool] = False
    looks: ClassVar[bool] = False
    whole: ClassVar[bool] = True
    side_by_side: ClassVar[bool] = False
    carries: ClassVar[bool] = False

    dim: int
    origin: str = field(default="", compare=False)

    @cached_property
    def operands(self) -> tuple[Value, ...]:
        """The values that this operation reads, in the order of `reads`."""
        return tuple(operand.value for operand in self._operands())

    def _operands(self) -> list[Rows | Source]:
        operands: list[Rows | Source] = []
        for name in self.reads:
            operand = getattr(self, name)
            operands.extend(operand if isinstance(operand, tuple) else (operand,))
        return operands

    def rows(self) -> tuple[Rows, ...]:
        """What the operation reads, in the order of `operands`.

        A carried value, which has no operand, reads the value that it is.
        """
        return tuple(o if isinstance(o, Rows) else Rows(o.value) for o in self._operands())

    def components(self) -> tuple[str, ...]:
        """The names of the components that the operation needs."""
        return tuple(name for field in self.names if (name := getattr(self, field)))

    @property
    def component_applied(self) -> str:
        """The name of the component that the operation applies, or ''."""
        return self.components()[0] if self.applies else ""

    @property
    def period(self) -> int:
        """Times may be moved by multiples of so many frames without other change."""
        return 1

    def elementwise(self) -> int:
        """Arithmetic operations for each element of the result, beside those of the component."""
        return 0

    def defined(self, sets: Sequence[Frames], everything: Frames) -> Frames:
        """The rows that can be computed.

        Args:
            sets: for each of `rows()`, the rows for which it is there.
        """
        for frames in sets:
            everything &= frames
        return everything

    def parts(self, own: AnyTimes, defined: Defined[AnyTimes]) -> tuple[AnyTimes, ...]:
        """For each of `rows()`, which of the operation's `own` rows it serves."""
        return (own,) * len(self.rows())

    def renamed(self, names: Mapping[Value, Value]) -> Self:
        """This operation on renamed operands."""
        if all(names[value] == value for value in self.operands):
            return self
        return self._with_operands(lambda operand: operand.renamed(names))

    def mapped(self, change: Callable[[tuple[TimeMap, ...]], tuple[TimeMap, ...]]) -> Self:
        """This operation with other time maps."""
        if not any(isinstance(operand, Rows) and operand.maps for operand in self._operands()):
            return self
        return self._with_operands(
            lambda o: replace(o, maps=change(o.maps)) if isinstance(o, Rows) else o
        )

    def _with_operands(self, change: Callable[[Any], Any]) -> Self:
        changes: dict[str, Any] = {}
        for name in self.reads:
            operand = getattr(self, name)
            is_tuple = isinstance(operand, tuple)
            changes[name] = tuple(map(change, operand)) if is_tuple else change(operand)
        return replace(self, **changes)
