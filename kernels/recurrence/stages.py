"""In what stages a step of a recurrence is computed, and what has to be kept in memory for that.

Programs that share the columns of a row meet after each stage. A product reads all columns of a
row, so they must have been written in an earlier stage, or be simple enough to be computed again
by everyone who reads them. The same goes for sums over columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nnet.kernels.recurrence.program import (
    LEAVES,
    ROWS,
    Earlier,
    Factor,
    Given,
    Id,
    Kept,
    Operation,
    Product,
    Recurrence,
    RowSum,
    Scaled,
    Total,
    Weighted,
)

READ_AT_ONCE = 3
"""Up to so many reads of memory are made by everyone anew, to save a stage."""


def stages(program: Recurrence) -> list[int]:
    """The stage of each operation. Those that only read memory are in the first."""
    numbers: list[int] = []
    for operation in program.operations:
        match operation:
            case Product(of=of) if not is_simple(program, of):
                numbers.append(numbers[of] + 1)
            case Factor(sums=sums):
                numbers.append(max(_seen(program, numbers, term) for term in sums))
            case _:
                numbers.append(max((numbers[o] for o in operation.operands), default=0))
    return numbers


def _seen(program: Recurrence, numbers: list[int], term: Id) -> int:
    """The stage from which on a number of the row can be read."""
    operation = program.operations[term]
    here = isinstance(operation, RowSum) and not operation.earlier
    return numbers[term] + 1 if here else numbers[term]


def is_simple(program: Recurrence, value: Id) -> bool:
    """Whether a value is made of a few numbers in memory by scales and sums alone."""
    leaves = list(_reads(program, value))
    return len(leaves) <= READ_AT_ONCE and None not in leaves


def _reads(program: Recurrence, value: Id) -> Iterator[Id | None]:
    """What a value reads of memory; None for what is not simple."""
    match program.operations[value]:
        case Given() | Earlier() | Kept():
            yield value
        case Total(terms=terms):
            for term, _ in terms:
                yield from _reads(program, term)
        case Scaled(of=of) | Weighted(of=of):
            yield from _reads(program, of)
        case _:
            yield None


def stored_values(program: Recurrence, wanted: Iterable[Id]) -> list[Id]:
    """What has to be in memory, beside what is wanted there: what other rows read, what products
    read that is not simple, and sums with products that later stages read."""
    operations = program.operations
    stored = dict.fromkeys(wanted)
    for operation in operations:
        match operation:
            case Earlier(of=of):
                stored[of] = None
            case Product(of=of) if not is_simple(program, of):
                stored[of] = None
    stage = stages(program)
    for value in reachable(program, stored):
        for operand in operations[value].operands:
            if stage[operand] < stage[value] and not isinstance(operations[value], ROWS):
                recall(program, operand, stored)
    return list(stored)


def recall(
    program: Recurrence, value: Id, stored: dict[Id, None], *, afterwards: bool = False
) -> None:
    """Adds to what is stored what has to be so that a value can be had without a product.

    Args:
        afterwards: when the loop has ended; numbers of rows have to be stored too then.
    """
    operation = program.operations[value]
    if value in stored or isinstance(operation, LEAVES):
        return
    row = isinstance(operation, ROWS)
    if isinstance(operation, Product) or _has_product(program, operation) or (row and afterwards):
        stored[value] = None
        return
    for operand in () if row else operation.operands:
        recall(program, operand, stored, afterwards=afterwards)


def _has_product(program: Recurrence, operation: Operation) -> bool:
    terms = operation.operands if isinstance(operation, Total) else ()
    return any(isinstance(program.operations[term], Product) for term in terms)


def reachable(program: Recurrence, wanted: Iterable[Id]) -> list[Id]:
    """What some values are made of, on this row and on others, in order."""
    reached: set[Id] = set()
    waiting = list(wanted)
    while waiting:
        value = waiting.pop()
        if value in reached:
            continue
        reached.add(value)
        operation = program.operations[value]
        waiting += operation.operands
        if isinstance(operation, Earlier):
            waiting.append(operation.of)
        elif isinstance(operation, RowSum) and operation.earlier:
            waiting += (operation.of, operation.second)
    return sorted(reached)
