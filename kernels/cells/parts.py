"""Programs of independent rows in parts between which there are products with matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from nnet.kernels.recurrence.program import (
    BufferColumns,
    Builder,
    Columns,
    Given,
    Id,
    Product,
    Recurrence,
    RowGiven,
)


@dataclass(frozen=True)
class MatrixProduct:
    """A product of all rows with a matrix.

    Attributes:
        source: the rows that are multiplied, `columns` wide.
        transposed: whether with the matrix itself, rows being rows; else with its transpose.
        result: the buffer of the result.
    """

    source: BufferColumns
    columns: int
    matrix: int
    transposed: bool
    result: str


@dataclass(frozen=True)
class ProgramPart:
    """A program without products, and the products that it reads."""

    products: tuple[MatrixProduct, ...]
    program: Recurrence


@cache
def parts_between_products(program: Recurrence) -> tuple[ProgramPart, ...]:
    """The parts of a program, in their order; what products read has to be stored."""
    numbers: list[int] = []
    for operation in program.operations:
        before = max((numbers[o] for o in operation.operands), default=0)
        numbers.append(before + 1 if isinstance(operation, Product) else before)
    return tuple(_PartBuilder(program, numbers, n).make() for n in range(max(numbers) + 1))


class _PartBuilder:
    def __init__(self, program: Recurrence, numbers: Sequence[int], number: int) -> None:
        self.program, self.numbers, self.number = program, numbers, number
        self.builder, self.names = Builder(), dict[Id, Id]()
        self.products: list[MatrixProduct] = []

    def make(self) -> ProgramPart:
        stores = tuple(
            (self.value(value), place)
            for value, place in self.program.stores
            if self.numbers[value] == self.number
        )
        sums = []
        for total in self.program.sums:
            if max(self.numbers[value] for value in total.operands) == self.number:
                names: Mapping[Id, Id] = {value: self.value(value) for value in total.operands}
                sums.append(total.renamed(names))
        operations = tuple(self.builder.operations)
        return ProgramPart(tuple(self.products), Recurrence(operations, stores, (), tuple(sums)))

    def value(self, value: Id) -> Id:
        if value not in self.names:
            self.names[value] = self._made(value)
        return self.names[value]

    def _made(self, value: Id) -> Id:
        operation, place = self.program.operations[value], self.program.places.get(value)
        if isinstance(operation, Product):
            return self._product(operation)
        if place is not None and self.numbers[value] < self.number:
            if isinstance(operation, Columns):
                return self.builder.add(Given(operation.dim, place.buffer, place.column))
            return self.builder.add(RowGiven(place.buffer, place.column))
        return self.builder.add(operation.renamed({o: self.value(o) for o in operation.operands}))

    def _product(self, product: Product) -> Id:
        source = self.program.operations[product.of]
        place = self.program.places.get(product.of)
        if place is None:
            assert isinstance(source, Given)
            place = BufferColumns(source.buffer, source.column)
        name = f"product {product.matrix}"
        columns = self.program.dim(product.of)
        matrix_product = MatrixProduct(place, columns, product.matrix, product.transposed, name)
        if matrix_product not in self.products:
            self.products.append(matrix_product)
        return self.builder.add(Given(product.dim, name))


def width_of(program: Recurrence) -> int:
    """The columns that a program of one part works on, which have to be the same everywhere."""
    (width,) = {o.dim for o in program.operations if isinstance(o, Columns)}
    return width
