"""The intermediate representation: values in SSA form, each made by one operation.

A plan says how rows are made from rows, relative in time ("row t reads rows t-1, t and t+1"); it
holds for every request, every length and every batch size. `nnet.plan.layout` binds it to the
index sets of one request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

from nnet.components.frames import Frames
from nnet.components.window import TimeWindow
from nnet.errors import NnetError
from nnet.plan.groups import Loop, find_groups
from nnet.plan.operation import AnyTimes, Defined
from nnet.plan.operation import Operation as Operation
from nnet.plan.operation import Rows as Rows
from nnet.plan.operation import Source as Source
from nnet.plan.operation import Value as Value
from nnet.plan.times import TimeMap


@dataclass(frozen=True)
class Input(Operation):
    """The rows that the user gives for input node `name`."""

    looks: ClassVar[bool] = True

    name: str


@dataclass(frozen=True)
class Undefined(Operation):
    """Defined at no index (for instance an x other than 0 of an input)."""

    def defined(self, sets: Sequence[Frames], everything: Frames) -> Frames:
        return everything.window.none


@dataclass(frozen=True)
class Constant(Operation):
    """`number` in every column, at every time."""

    number: float


@dataclass(frozen=True)
class Look(Operation):
    """The rows of another value, seen through time maps."""

    reads: ClassVar[tuple[str, ...]] = ("source",)

    looks: ClassVar[bool] = True

    source: Source
    maps: tuple[TimeMap, ...]

    def rows(self) -> tuple[Rows, ...]:
        return (Rows(self.source.value, self.maps),)

    def mapped(self, change: Callable[[tuple[TimeMap, ...]], tuple[TimeMap, ...]]) -> Self:
        return replace(self, maps=change(self.maps))


@dataclass(frozen=True)
class Columns(Operation):
    """Columns `offset` .. `offset + dim` of `source`."""

    reads: ClassVar[tuple[str, ...]] = ("source",)
    looks: ClassVar[bool] = True

    source: Source
    offset: int

    def rows(self) -> tuple[Rows, ...]:
        return (Rows(self.source.value, offset=self.offset, dim=self.dim),)


@dataclass(frozen=True)
class Append(Operation):
    """Columns of the sources, side by side."""

    reads: ClassVar[tuple[str, ...]] = ("sources",)
    side_by_side: ClassVar[bool] = True

    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Sum(Operation):
    """The sum of `scale * source`."""

    reads: ClassVar[tuple[str, ...]] = ("sources",)

    sources: tuple[Source, ...]
    scales: tuple[float, ...]

    def rows(self) -> tuple[Rows, ...]:
        pairs = zip(self.sources, self.scales, strict=True)
        return tuple(Rows(source.value, scale=scale) for source, scale in pairs)

    def elementwise(self) -> int:
        return 2 * len(self.sources)


@dataclass(frozen=True)
class IfDefined(Operation):
    """`source` where it can be computed, else zeros."""

    reads: ClassVar[tuple[str, ...]] = ("source",)
    looks: ClassVar[bool] = True
    whole: ClassVar[bool] = False

    source: Source

    def defined(self, sets: Sequence[Frames], everything: Frames) -> Frames:
        return everything

    def parts(self, own: AnyTimes, defined: Defined[AnyTimes]) -> tuple[AnyTimes, ...]:
        return (defined(self.source.value, own),)


@dataclass(frozen=True)
class Failover(Operation):
    """`first` where it can be computed, else `second`."""

    reads: ClassVar[tuple[str, ...]] = ("first", "second")
    whole: ClassVar[bool] = False

    first: Source
    second: Source

    def defined(self, sets: Sequence[Frames], everything: Frames) -> Frames:
        first, second = sets
        return first | second

    def parts(self, own: AnyTimes, defined: Defined[AnyTimes]) -> tuple[AnyTimes, ...]:
        there = defined(self.first.value, own)
        return there, own.difference(there)


@dataclass(frozen=True)
class Switch(Operation):
    """At time t, `sources[t mod len(sources)]`."""

    reads: ClassVar[tuple[str, ...]] = ("sources",)
    whole: ClassVar[bool] = False

    sources: tuple[Source, ...]

    @property
    def period(self) -> int:
        return len(self.sources)

    def defined(self, sets: Sequence[Frames], everything: Frames) -> Frames:
        result = everything.window.none
        for number, frames in enumerate(sets):
            result |= frames.residue(number, len(sets))
        return result

    def parts(self, own: AnyTimes, defined: Defined[AnyTimes]) -> tuple[AnyTimes, ...]:
        return tuple(own.residue(i, len(self.sources)) for i in range(len(self.sources)))


@dataclass(frozen=True)
class Apply(Operation):
    """A component's output on `source`, row by row."""

    reads: ClassVar[tuple[str, ...]] = ("source",)
    names: ClassVar[tuple[str, ...]] = ("component",)
    applies: ClassVar[bool] = True

    component: str
    source: Source

    def rows(self) -> tuple[Rows, ...]:
        return (Rows(self.source.value, into=None),)


@dataclass(frozen=True)
class ApplyWindow(Operation):
    """A component's output on a window of the rows of `source` around each row."""

    reads: ClassVar[tuple[str, ...]] = ("source",)
    names: ClassVar[tuple[str, ...]] = ("component",)
    applies: ClassVar[bool] = True

    component: str
    source: Source

    def rows(self) -> tuple[Rows, ...]:
        return (Rows(self.source.value, window=self.component, into=None),)


@dataclass(frozen=True)
class Logits(Operation):
    """`source` as it is: an output whose log-softmax, `component`, is left to its objective."""

    reads: ClassVar[tuple[str, ...]] = ("source",)
    names: ClassVar[tuple[str, ...]] = ("component",)

    component: str
    source: Source


@dataclass(frozen=True)
class Generate(Operation):
    """The output of a component that has no input, at every time."""

    names: ClassVar[tuple[str, ...]] = ("component",)

    component: str


@dataclass(frozen=True)
class Carried(Operation):
    """The rows of value `of`, which is made by a later operation: a recurrence.

    It is no operand: `of` is reached through the time before (or after). A pass leaves `of` as it
    was; `nnet.plan.builder.Builder.plan` renames it.
    """

    looks: ClassVar[bool] = True

    carries: ClassVar[bool] = True

    of: Value

    def rows(self) -> tuple[Rows, ...]:
        return (Rows(self.of),)


@dataclass(frozen=True)
class SplicedAffine(Operation):
    """An affine component on appended terms that are never put side by side in memory.

    result = activation(sum_i term_i W_i' + b) * scales + offsets + sum_j bypass_j, where W_i are
    the columns of the component's matrix that belong to term i. `activation` is '' or the name of
    an elementwise function, `scale_offset` '' or a component with scales and offsets. With `ones`
    the last column of the first term is 1 at all times, and its weights are the bias.
    """

    reads: ClassVar[tuple[str, ...]] = ("terms", "bypass")
    names: ClassVar[tuple[str, ...]] = ("component", "scale_offset")
    applies: ClassVar[bool] = True

    component: str
    terms: tuple[Rows, ...]
    activation: str = ""
    scale_offset: str = ""
    bypass: tuple[Rows, ...] = ()
    ones: bool = False

    def rows(self) -> tuple[Rows, ...]:
        return (*(replace(term, into=None) for term in self.terms), *self.bypass)

    def elementwise(self) -> int:
        return bool(self.activation) + bool(self.scale_offset) + len(self.bypass)


@dataclass(frozen=True, kw_only=True)
class ReluBatchNorm(Apply):
    """Batch-norm `component`, by a minibatch's statistics, on what the rectified linear unit `relu`
    makes of `source`; plus `bypass_scale` times the bypass, if there is one."""

    reads: ClassVar[tuple[str, ...]] = ("source", "bypass")
    names: ClassVar[tuple[str, ...]] = ("component", "relu")

    relu: str
    bypass: tuple[Source, ...] = ()
    bypass_scale: float = 1.0

    def rows(self) -> tuple[Rows, ...]:
        beside = (Rows(source.value, scale=self.bypass_scale) for source in self.bypass)
        return (Rows(self.source.value, into=None), *beside)


@dataclass(frozen=True, kw_only=True)
class AffineBatchNorm(SplicedAffine):
    """Batch-norm `batch_norm`, by a minibatch's statistics, on what the rectified linear unit
    `relu` makes of the affine transform; plus the bypass."""

    names: ClassVar[tuple[str, ...]] = ("component", "scale_offset", "relu", "batch_norm")

    relu: str
    batch_norm: str


@dataclass(frozen=True)
class Plan:
    """Operations in an order in which they can be carried out, and the values that are results.

    `components` holds the specifications that `Apply` and `SplicedAffine` name: the network's own,
    and those that passes derived from them.
    """

    operations: tuple[Operation, ...]
    results: tuple[tuple[str, Value], ...]
    components: Mapping[str, Any]

    @cached_property
    def groups(self) -> tuple[Value | Loop, ...]:
        """All values, each loop as one, in an order in which they can be computed."""
        return find_groups(self.operations, self.window)

    def dim(self, value: Value) -> int:
        return self.operations[value].dim

    def reads(self, value: Value) -> tuple[Rows, ...]:
        """What an operation reads, with the columns of it counted."""
        operation, read, column = self.operations[value], list[Rows](), 0
        for rows in operation.rows():
            dim = rows.dim or self.dim(rows.value)
            into = column if operation.side_by_side else rows.into
            read.append(replace(rows, dim=dim, into=into))
            column += dim
        return tuple(read)

    def window(self, rows: Rows) -> TimeWindow | None:
        """The window that is read around each row, where an operation reads one."""
        window: TimeWindow | None = self.components[rows.window].window if rows.window else None
        return window

    def uses(self) -> list[int]:
        """For each value, how many operands and results refer to it."""
        counts = [0] * len(self.operations)
        for operation in self.operations:
            for rows in operation.rows():
                counts[rows.value] += 1
        for _, value in self.results:
            counts[value] += 1
        return counts

    def verify(self) -> None:
        """Raises NnetError if an operation reads a later value or dimensions do not agree."""
        for position, operation in enumerate(self.operations):
            where = f"plan value %{position} ({type(operation).__name__} {operation.origin})"
            for value in operation.operands:
                if not 0 <= value < position:
                    raise NnetError(f"{where} reads %{value}, which is not defined before it")
            if isinstance(operation, Carried) and not 0 <= operation.of < len(self.operations):
                raise NnetError(f"{where} carries %{operation.of}, which does not exist")
            expected = _expected_dim(self, operation)
            if expected is not None and expected != operation.dim:
                raise NnetError(f"{where} has dim {operation.dim}, its operands give {expected}")
        for name, value in self.results:
            if not 0 <= value < len(self.operations):
                raise NnetError(f"plan result '{name}' is %{value}, which does not exist")


def _expected_dim(plan: Plan, operation: Operation) -> int | None:
    dims = [plan.dim(v) for v in operation.operands]
    match operation:
        case Look() | IfDefined() | Logits():
            return dims[0]
        case Append():
            return sum(dims)
        case Sum() | Failover() | Switch():
            return dims[0] if len(set(dims)) == 1 else -1
        case Columns(offset=offset, dim=dim):
            return dim if offset + dim <= dims[0] else -1
        case Carried(of=of):
            return plan.dim(of)
        case Apply(component=component):
            spec = plan.components[component]
            columns = spec.input_dim * len(spec.window.offsets)
            return int(spec.output_dim) if columns == dims[0] else -1
        case ApplyWindow(component=component):
            spec = plan.components[component]
            return int(spec.output_dim) if spec.input_dim == dims[0] else -1
        case Generate(component=component):
            return int(plan.components[component].output_dim)
        case SplicedAffine(component=component, terms=terms):
            spec = plan.components[component]
            return int(spec.output_dim) if sum(t.dim for t in terms) == spec.linear.shape[1] else -1
    return None
