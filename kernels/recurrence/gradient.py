"""From a recurrence to the two programs that run: forward, and its derivative.

The derivative is made operation by operation in reverse order. What it needs of the pass forward
is read from memory where that was stored anyway, and computed again from it otherwise, but for
products, which are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from nnet.kernels.recurrence.program import (
    BufferColumns,
    Builder,
    Columns,
    ColumnSum,
    Earlier,
    Factor,
    Function,
    Given,
    Id,
    Kept,
    Multiply,
    Offset,
    Operation,
    Product,
    Push,
    Recurrence,
    RowGiven,
    RowSum,
    Scaled,
    Slope,
    Total,
    Truncated,
    Weighted,
)
from nnet.kernels.recurrence.stages import reachable, recall, stored_values

Stores = Mapping[Id, Sequence[BufferColumns]]


@dataclass(frozen=True)
class Runnable:
    """A program that runs, and which of its operations are those of the one that it was made of:
    for a derivative, which hold their gradients."""

    program: Recurrence
    values: Mapping[Id, Id]


def forward_of(source: Recurrence, stores: Stores, kept: Iterable[Id] = ()) -> Runnable:
    """The program that computes `source`.

    Args:
        stores: where which values of `source` are wanted.
        kept: which of the result's values a derivative reads (as in `Kept`).
    """
    plain, names = _without_truncations(source)
    return Runnable(_with_stores(plain, _renamed(stores, names), kept, "state"), names)


def _renamed(places: Stores, names: Mapping[Id, Id]) -> Stores:
    """The places of values that have other names now; some may have the same."""
    renamed: dict[Id, list[BufferColumns]] = {}
    for value, where in places.items():
        if value in names:
            renamed.setdefault(names[value], []).extend(where)
    return renamed


def _without_truncations(source: Recurrence) -> tuple[Recurrence, dict[Id, Id]]:
    """Truncations are scales; what they scale is what is remembered."""
    builder, names, waiting = Builder(), dict[Id, Id](), list[tuple[Id, Id]]()
    for value, operation in enumerate(source.operations):
        match operation:
            case Truncated(of=of, truncation=number):
                scale = source.truncations[number].scale
                names[value] = builder.total([(names[of], scale)])
            case Earlier(dim=dim, of=of):
                remembered, scale = _behind_truncations(source, of)
                waiting.append((builder.later(dim), remembered))
                names[value] = builder.total([(waiting[-1][0], scale)])
            case _:
                names[value] = builder.add(operation.renamed(names))
    for earlier, remembered in waiting:
        builder.connect(earlier, names[remembered])
    return Recurrence(tuple(builder.operations)), names


def _behind_truncations(source: Recurrence, value: Id) -> tuple[Id, float]:
    scale = 1.0
    while isinstance(operation := source.operations[value], Truncated):
        scale *= source.truncations[operation.truncation].scale
        value = operation.of
    return value, scale


def _with_stores(
    program: Recurrence, wanted: Stores, kept: Iterable[Id], buffer: str
) -> Recurrence:
    """The program with places for everything that has to be stored."""
    stored = dict.fromkeys(stored_values(program, wanted))
    for value in kept:
        recall(program, value, stored, afterwards=True)
    stores: list[tuple[Id, BufferColumns]] = []
    for value in reachable(program, stored):
        if value not in stored:
            continue
        places = wanted.get(value) or [_own_place(program, value, f"{buffer} {value}")]
        stores += [(value, place) for place in places]
    return replace(program, stores=tuple(stores))


def _own_place(program: Recurrence, value: Id, buffer: str) -> BufferColumns:
    """A place of its own; for a sum with rows that nothing else reads, the place of these."""
    operation = program.operations[value]
    if isinstance(operation, Total):
        for term, _ in operation.terms:
            given = program.operations[term]
            uses = sum(term in other.operands for other in program.operations)
            if isinstance(given, Given) and given.scratch and uses == 1:
                return BufferColumns(given.buffer, given.column)
    return BufferColumns(buffer)


class _Derivative:
    """Derivatives with respect to the values of a source program, in reverse order."""

    def __init__(
        self,
        source: Recurrence,
        names: Mapping[Id, Id],
        repaired: frozenset[int],
        summed: frozenset[int],
        counted: frozenset[int],
    ) -> None:
        self.source, self.names, self.repaired = source, names, repaired
        self.summed, self.counted = summed, counted
        self.builder = Builder()
        self.sums: list[ColumnSum] = []
        self.parts: dict[Id, list[tuple[Id, float]]] = {}
        self.later: dict[Id, list[Id]] = {}
        self.gradients: dict[Id, Id] = {}

    def kept(self, value: Id) -> Id:
        return self.builder.add(Kept(self.source.dim(value), self.names[value]))

    def add(self, value: Id, operation: Operation, scale: float = 1.0) -> None:
        self._part(value, self.builder.add(operation), scale)

    def _part(self, value: Id, gradient: Id, scale: float = 1.0) -> None:
        self.parts.setdefault(value, []).append((gradient, scale))

    def run(self, given: Mapping[Id, BufferColumns]) -> None:
        """Args: given: where the gradients are that come from outside."""
        operations = self.source.operations
        for value, place in given.items():
            dim = self.source.dim(value)
            self.add(value, Given(dim, place.buffer, place.column, scratch=True))
        for number, operation in enumerate(operations):
            if isinstance(operation, Earlier):
                self.later[number] = [self.builder.later(operation.dim)]
                self._part(operation.of, self.later[number][0])
        for value in reversed(range(len(operations))):
            self._go_through(value, operations[value])

    def _go_through(self, value: Id, operation: Operation) -> None:
        if not isinstance(operation, Columns) or isinstance(operation, Given):
            self._sum_up(value)
            return
        total = self._sum_up(value)
        if total is None:
            total = self.builder.add(Total(operation.dim, ()))
            if not isinstance(operation, Earlier):
                return
        dim = operation.dim
        match operation:
            case Earlier():
                for earlier in self.later[value]:
                    self.builder.connect(earlier, total)
            case Total(terms=terms):
                for term, scale in terms:
                    self._part(term, total, scale)
            case Multiply(of=first, second=second):
                self.add(first, Multiply(dim, total, self.kept(second)))
                self.add(second, Multiply(dim, total, self.kept(first)))
            case Function(of=of, name=name, repair=repair):
                result = self.kept(value)
                slope = self.builder.add(Slope(dim, result, name))
                self.add(of, Multiply(dim, total, slope))
                if repair in self.repaired:
                    self.add(of, Push(dim, result, name, repair))
                if repair in self.counted:
                    self.sums.append(ColumnSum("values", repair, result))
                    self.sums.append(ColumnSum("squares", repair, result, result))
            case Weighted(of=of, vector=vector):
                self.add(of, Weighted(dim, total, vector))
                if vector in self.summed:
                    self.sums.append(ColumnSum("weights", vector, total, self.kept(of)))
            case Offset(of=of):
                self._part(of, total)
            case Product(of=of, matrix=matrix):
                self.add(of, Product(self.source.dim(of), total, matrix, transposed=True))
            case Scaled(of=of, row=row):
                self._scaled(of, row, total)
            case Truncated(of=of, truncation=number):
                self._truncated(of, number, total)

    def _sum_up(self, value: Id) -> Id | None:
        parts = self.parts.get(value)
        if parts is None:
            return None
        self.gradients[value] = self.builder.total(parts)
        return self.gradients[value]

    def _scaled(self, of: Id, row: Id, total: Id) -> None:
        factor, dim = self.source.operations[row], self.source.dim(of)
        if isinstance(factor, RowGiven):
            self.add(of, Scaled(dim, total, self.builder.add(factor)))
            return
        assert isinstance(factor, Factor)
        own = self.kept(row)
        self.add(of, Scaled(dim, total, own))
        x = self.kept(of)
        product = self.builder.add(RowSum(x, total))
        slope = self.builder.add(Factor("renorm slope", (own, product), factor.numbers))
        self.add(of, Scaled(dim, x, slope))

    def _truncated(self, of: Id, number: int, total: Id) -> None:
        truncation, dim = self.source.truncations[number], self.source.dim(of)
        if not truncation.threshold and not truncation.boundaries:
            self._part(of, total, truncation.scale)
            return
        members = [
            member
            for member, operation in enumerate(self.source.operations)
            if isinstance(operation, Truncated) and operation.truncation == number
        ]
        totals = [
            norm_square for member in members if (norm_square := self._sum_up(member)) is not None
        ]
        sums = tuple(self.builder.add(RowSum(norm_square, norm_square)) for norm_square in totals)
        numbers = (truncation.scale, truncation.threshold, truncation.zeroing)
        factor = self.builder.add(Factor("truncation", sums, numbers, truncation.boundaries))
        self.add(of, Scaled(dim, total, factor))


@dataclass(frozen=True)
class Both:
    """A recurrence forward and its derivative.

    Attributes:
        forward: `values` are those of the source.
        backward: `values` are derivatives with respect to those of the source, as far as there are
            any.
    """

    forward: Runnable
    backward: Runnable


def differentiate(
    source: Recurrence,
    stores: Stores,
    given: Mapping[Id, BufferColumns],
    wanted: Stores,
    read: Iterable[Id] = (),
    repaired: frozenset[int] = frozenset(),
    summed: frozenset[int] = frozenset(),
    counted: frozenset[int] = frozenset(),
) -> Both:
    """Both programs.

    Args:
        stores: where which values are wanted.
        given: from where derivatives with respect to values come that are read outside.
        wanted: for which values gradients are wanted, and where.
        read: which values and whose gradients are evaluated afterwards.
        repaired: vectors of `Push` that self-repair needs, of those that functions name.
        summed: vectors by which something is weighted and whose gradients the program sums up.
        counted: functions, by their `repair`, whose results and squares it sums up.
    """
    names = _without_truncations(source)[1]
    derivative = _Derivative(source, names, repaired, summed, counted)
    derivative.run(given)
    reads = _earlier_sums(Recurrence(tuple(derivative.builder.operations)))
    gradients = derivative.gradients
    places = _renamed(wanted, gradients)
    read = tuple(read)
    evaluated = [gradients[value] for value in read if value in gradients]
    sums = derivative.sums
    added = [value for total in sums for value in total.operands]
    needed = reachable(reads, [*stored_values(reads, places), *evaluated, *added])
    kept = [o.value for o in map(reads.operations.__getitem__, needed) if isinstance(o, Kept)]
    forward = forward_of(source, stores, [*kept, *(names[value] for value in read)])
    ours, moved = _with_memory(reads, forward.program, needed)
    afterwards = [moved[value] for value in (*evaluated, *added)]
    backward = _with_stores(ours, _renamed(places, moved), afterwards, "gradient")
    backward = replace(backward, sums=tuple(total.renamed(moved) for total in sums))
    values = {v: moved[g] for v, g in gradients.items() if g in moved}
    return Both(forward, Runnable(backward, values))


def _earlier_sums(program: Recurrence) -> Recurrence:
    """Sums over columns of what was there one delay before, made when that was made."""
    operations = list(program.operations)
    for number, operation in enumerate(operations):
        if isinstance(operation, RowSum):
            first, second = operations[operation.of], operations[operation.second]
            if isinstance(first, Earlier) and isinstance(second, Earlier):
                operations[number] = RowSum(first.of, second.of, earlier=True)
    return replace(program, operations=tuple(operations))


def _with_memory(
    program: Recurrence, forward: Recurrence, needed: Sequence[Id]
) -> tuple[Recurrence, dict[Id, Id]]:
    """What is needed of a derivative, with reads of memory for what was kept, or what makes it
    again; and what its operations are called now."""
    builder, names, waiting = Builder(), dict[Id, Id](), list[tuple[Id, Id]]()
    recalling = _Recalling(builder, forward)
    for value in needed:
        operation = program.operations[value]
        match operation:
            case Kept(value=kept):
                names[value] = recalling.value(kept)
            case Earlier(dim=dim, of=of):
                names[value] = builder.later(dim)
                waiting.append((names[value], of))
            case RowSum(earlier=True):
                names[value] = len(builder.operations)
                builder.operations.append(operation)
                waiting.append((names[value], operation.of))
            case _:
                names[value] = builder.add(operation.renamed(names))
    for number, of in waiting:
        if isinstance(builder.operations[number], RowSum):
            builder.operations[number] = RowSum(names[of], names[of], earlier=True)
        else:
            builder.connect(number, names[of])
    return Recurrence(tuple(builder.operations)), names


class _Recalling:
    """Values of a program that has run, for a program that runs the other way round."""

    def __init__(self, builder: Builder, forward: Recurrence) -> None:
        self.builder, self.forward, self.places = builder, forward, forward.places

    def value(self, value: Id) -> Id:
        operation, place = self.forward.operations[value], self.places.get(value)
        if place is not None:
            if not isinstance(operation, Columns):
                return self.builder.add(RowGiven(place.buffer, place.column))
            return self.builder.add(Given(operation.dim, place.buffer, place.column))
        if isinstance(operation, Earlier):
            where = self.places[operation.of]
            return self.builder.add(Given(operation.dim, where.buffer, where.column, shift=1))
        operands = {operand: self.value(operand) for operand in operation.operands}
        return self.builder.add(operation.renamed(operands))
