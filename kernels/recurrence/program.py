"""Recurrences as small programs: what each row of a loop over time computes, from which other rows.

A row is one time of one sequence; rows are time-major. A program is a list of operations on the
columns of one row; an operation is named by its position. What a row takes from the row one delay
before it (`Earlier`) is the only thing that feeds back: a delay of 3 frames at 64 sequences makes
steps of 192 rows that do not depend on each other. `nnet.kernels.recurrence.gradient` makes the
derivative of a program, which is a program too and runs the other way round in time.
`nnet.kernels.recurrence.run` runs programs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal, Self

Id = int
"""An operation, by its position in the program."""

FunctionName = Literal["sigmoid", "tanh", "relu"]


@dataclass(frozen=True)
class Operation:
    """What is computed; fields of the type `Id` are operands, and so are ids in `terms`, `sums`."""

    @property
    def operands(self) -> tuple[Id, ...]:
        """What this reads of its own row."""
        return tuple(getattr(self, name) for name in ("of", "second", "row") if hasattr(self, name))

    def renamed(self, names: Mapping[Id, Id]) -> Self:
        """The operation with other operands."""
        changes: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("of", "second", "row"):
                changes[field.name] = names[value]
            elif field.name == "terms":
                changes["terms"] = tuple((names[term], scale) for term, scale in value)
            elif field.name == "sums":
                changes["sums"] = tuple(names[term] for term in value)
        return replace(self, **changes)


@dataclass(frozen=True)
class Columns(Operation):
    """`dim` numbers of each row."""

    dim: int


@dataclass(frozen=True)
class Given(Columns):
    """Columns of a buffer, of the own row or of the one `shift` delays further on; zeros where the
    loop has no such row. In a `scratch` buffer results may be written over what was given."""

    buffer: str
    column: int = 0
    shift: int = 0
    scratch: bool = False


@dataclass(frozen=True)
class Kept(Columns):
    """What operation `value` of the program forward computed for this row; in derivatives, until it
    is known what is stored and what computed again."""

    value: Id


@dataclass(frozen=True)
class Earlier(Columns):
    """What operation `of` computed for the row one delay before; zeros where there is none."""

    of: Id

    @property
    def operands(self) -> tuple[Id, ...]:
        return ()


@dataclass(frozen=True)
class Product(Columns):
    """Matrix number `matrix`, or its transpose, times a column vector."""

    of: Id
    matrix: int
    transposed: bool = False


@dataclass(frozen=True)
class Total(Columns):
    """constant + sum of scale * term."""

    terms: tuple[tuple[Id, float], ...]
    constant: float = 0.0

    @property
    def operands(self) -> tuple[Id, ...]:
        return tuple(term for term, _ in self.terms)


@dataclass(frozen=True)
class Multiply(Columns):
    """The product of two values, column by column."""

    of: Id
    second: Id


@dataclass(frozen=True)
class Function(Columns):
    """A nonlinearity. If `repair` is not negative, derivatives may add `Push` of that vector."""

    of: Id
    name: FunctionName
    repair: int = -1


@dataclass(frozen=True)
class Slope(Columns):
    """The derivative of a nonlinearity, from its result."""

    of: Id
    name: FunctionName


@dataclass(frozen=True)
class Push(Columns):
    """The vector of the step times what self-repair pushes a result of a nonlinearity by."""

    of: Id
    name: FunctionName
    vector: int


@dataclass(frozen=True)
class Weighted(Columns):
    """A value times vector number `vector`, column by column."""

    of: Id
    vector: int


@dataclass(frozen=True)
class Offset(Columns):
    """A value plus vector number `vector`, column by column."""

    of: Id
    vector: int


@dataclass(frozen=True)
class Scaled(Columns):
    """Times one number of the row."""

    of: Id
    row: Id


@dataclass(frozen=True)
class Truncated(Columns):
    """Times the scale of a truncation. The derivatives of all columns of that truncation are scaled
    down together (nnet3's BackpropTruncationComponent)."""

    of: Id
    truncation: int


@dataclass(frozen=True)
class RowGiven(Operation):
    """One number of each row: a column of a buffer."""

    buffer: str
    column: int = 0


@dataclass(frozen=True)
class RowSum(Operation):
    """The sum over columns of a product, for each row; if `earlier`, that of the row one delay
    before, of what `of` and `second` were there."""

    of: Id
    second: Id
    earlier: bool = False

    @property
    def operands(self) -> tuple[Id, ...]:
        return () if self.earlier else (self.of, self.second)


FactorName = Literal["truncation", "renorm", "renorm slope"]


@dataclass(frozen=True)
class Factor(Operation):
    """One number of each row, from sums over its columns.

    `truncation`: scale / max(1, |scale| norm / threshold) of the root of all sums, or 0 at rows
    that the buffer `boundaries` marks where |scale| norm > zeroing; numbers are scale, threshold
    (0 for none) and zeroing.
    `renorm`: 1 / sqrt(max(sum / size, 2^-66)); the number is size, columns times target_rms^2.
    `renorm slope`: what x is multiplied by in the derivative of x * renorm, from that factor itself
    and the sum of x times the derivative.
    """

    name: FactorName
    sums: tuple[Id, ...]
    numbers: tuple[float, ...]
    boundaries: str = ""

    @property
    def operands(self) -> tuple[Id, ...]:
        return self.sums


ROWS = (RowGiven, RowSum, Factor)
"""Operations that give one number of each row."""

LEAVES = (Given, Kept, Earlier, RowGiven)
"""Operations that only read memory."""


@dataclass(frozen=True)
class Truncation:
    """What a truncation does.

    Attributes:
        scale: that the state is multiplied by.
        threshold: norm to which a row's derivative is scaled down; 0 for none.
        zeroing: norm above which it is zero, at the rows marked in the buffer `boundaries`.
    """

    scale: float = 1.0
    threshold: float = 0.0
    zeroing: float = 0.0
    boundaries: str = ""


@dataclass(frozen=True)
class BufferColumns:
    """Where a value lies in memory: in a buffer, from column `column` on."""

    buffer: str
    column: int = 0


SumName = Literal["weights", "values", "squares"]


@dataclass(frozen=True)
class ColumnSum:
    """One number of each column: the sum over all rows of the product of two values, or of one.

    Attributes:
        name, number: what it is: the derivative with respect to vector `number`, or the sum of the
            results, or of their squares, of the nonlinearity whose `repair` is `number`.
        second: -1 for none.
    """

    name: SumName
    number: int
    of: Id
    second: Id = -1

    @property
    def operands(self) -> tuple[Id, ...]:
        """The values that it is made of."""
        return (self.of,) if self.second < 0 else (self.of, self.second)

    def renamed(self, names: Mapping[Id, Id]) -> ColumnSum:
        """The sum over other values."""
        second = self.second if self.second < 0 else names[self.second]
        return replace(self, of=names[self.of], second=second)


@dataclass(frozen=True)
class Recurrence:
    """A program.

    Attributes:
        operations: an operation reads earlier ones, but for what `Earlier` and earlier sums read.
        stores: what is kept in memory, and where; numbers of rows are columns of a buffer too.
        truncations: by number.
        sums: what is added up over all rows.
    """

    operations: tuple[Operation, ...]
    stores: tuple[tuple[Id, BufferColumns], ...] = ()
    truncations: tuple[Truncation, ...] = ()
    sums: tuple[ColumnSum, ...] = ()

    def dim(self, value: Id) -> int:
        """Columns of a value; 1 for numbers of rows."""
        operation = self.operations[value]
        return operation.dim if isinstance(operation, Columns) else 1

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.operations, self.stores, self.truncations, self.sums))

    @cached_property
    def places(self) -> dict[Id, BufferColumns]:
        """Where values are read that are stored, once each."""
        places: dict[Id, BufferColumns] = {}
        for value, place in self.stores:
            places.setdefault(value, place)
        return places

    @cached_property
    def widths(self) -> dict[str, int]:
        """The columns of every buffer."""
        widths: dict[str, int] = {}
        for buffer, end in self._ends():
            widths[buffer] = max(widths.get(buffer, 0), end)
        return widths

    def _ends(self) -> Iterator[tuple[str, int]]:
        for operation in self.operations:
            match operation:
                case Given(dim=dim, buffer=buffer, column=column):
                    yield buffer, column + dim
                case RowGiven(buffer=buffer, column=column):
                    yield buffer, column + 1
        for value, place in self.stores:
            yield place.buffer, place.column + self.dim(value)

    @cached_property
    def boundaries(self) -> tuple[str, ...]:
        """The buffers that mark rows."""
        marks = (o.boundaries for o in self.operations if isinstance(o, Factor) and o.boundaries)
        return tuple(dict.fromkeys(marks))

    @cached_property
    def written(self) -> tuple[str, ...]:
        """The buffers that are stored to."""
        return tuple(dict.fromkeys(place.buffer for _, place in self.stores))

    @cached_property
    def given(self) -> tuple[str, ...]:
        """The buffers that are only read."""
        buffers = dict.fromkeys((*self.widths, *self.boundaries))
        return tuple(name for name in buffers if name not in self.written)

    @cached_property
    def vectors(self) -> dict[int, int]:
        """The vectors that are read, and their columns."""
        used = (o for o in self.operations if isinstance(o, Weighted | Offset | Push))
        return {o.vector: o.dim for o in used}

    @cached_property
    def matrices(self) -> dict[int, tuple[int, int]]:
        """The matrices that are read, and their rows and columns."""
        shapes: dict[int, tuple[int, int]] = {}
        for operation in self.operations:
            if isinstance(operation, Product):
                shape = (operation.dim, self.dim(operation.of))
                shapes[operation.matrix] = shape[::-1] if operation.transposed else shape
        return shapes


class Builder:
    """Operations one after the other; an equal one is not added twice."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._known: dict[Operation, Id] = {}

    def add(self, operation: Operation) -> Id:
        """Adds an operation, unless the same is there already, and gives its number."""
        if operation not in self._known:
            self._known[operation] = len(self.operations)
            self.operations.append(operation)
        return self._known[operation]

    def dim(self, value: Id) -> int:
        """Columns of a value; 1 for numbers of rows."""
        operation = self.operations[value]
        return operation.dim if isinstance(operation, Columns) else 1

    def total(self, terms: list[tuple[Id, float]], constant: float = 0.0) -> Id:
        """A sum; the term itself if there is one alone."""
        if len(terms) == 1 and terms[0][1] == 1.0 and not constant:
            return terms[0][0]
        return self.add(Total(self.dim(terms[0][0]), tuple(terms), constant))

    def later(self, dim: int) -> Id:
        """Adds an `Earlier` of an operation that is not there yet; `connect` says which."""
        self.operations.append(Earlier(dim, -1))
        return len(self.operations) - 1

    def connect(self, earlier: Id, of: Id) -> None:
        """Says what an operation of `later` reads."""
        self.operations[earlier] = Earlier(self.dim(of), of)
