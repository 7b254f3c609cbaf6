"""The part of a recurrence's kernel that makes some blocks of columns in a stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from nnet.kernels.recurrence.gpu.signature import Signature, Text
from nnet.kernels.recurrence.program import (
    BufferColumns,
    Columns,
    Earlier,
    Factor,
    Function,
    Given,
    Id,
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
    Weighted,
)

RESIDENT_COLUMNS = 256
"""Up to so many rows of a matrix's block stay on chip: of 16 columns each, four such blocks take
32 KiB in 16 bits, and more would not fit in registers as operands of sm_80's products."""

READ_AHEAD = 4
"""Up to so many blocks are read before products that last longer than memory takes; registers do
not hold more at the same time."""


class Surroundings(Protocol):
    """What a block knows of the kernel that it is part of."""

    program: Recurrence
    signature: Signature
    stages: Sequence[int]
    text: Text

    def width(self, effect: Id) -> int:
        """The columns that something which is left in memory is made of."""

    def buffer(self, place: BufferColumns, when: str = "") -> tuple[str, str]:
        """The distance between rows of a buffer, and where the step's first row begins."""


class Block:
    """What a stage makes of some blocks of columns.

    Args:
        first: columns that other blocks of the stage have; programs take turns.
    """

    def __init__(self, kernel: Surroundings, stage: int, effects: list[Id], first: int = 0) -> None:
        self.kernel, self.stage, self.effects, self.first = kernel, stage, effects, first
        self.program, self.text = kernel.program, kernel.text
        self.dim = kernel.width(effects[0])
        self.needed = self._needed()
        operations = self.program.operations
        self.products = [v for v in self.needed if isinstance(operations[v], Product)]
        self.accumulators = self._share_accumulators()

    def reads_memory(self, value: Id) -> bool:
        """Whether a value was stored in an earlier stage."""
        return value in self.program.places and self.kernel.stages[value] < self.stage

    def _needed(self) -> list[Id]:
        """What is computed here, without what products read."""
        needed: dict[Id, None] = {}
        waiting = [o for e in self.effects for o in self._computed(e)]
        while waiting:
            value = waiting.pop()
            if value in needed or self.reads_memory(value):
                continue
            needed[value] = None
            operation = self.program.operations[value]
            if not isinstance(operation, Product | Factor | RowSum):
                waiting += operation.operands
        return sorted(needed)

    def _computed(self, effect: Id) -> tuple[Id, ...]:
        operation = self.program.operations[effect]
        return (operation.of, operation.second) if isinstance(operation, RowSum) else (effect,)

    def rows(self) -> list[Id]:
        """The numbers of rows that are read here."""
        operations = self.program.operations
        rows = [v for v in self.needed if isinstance(operations[v], Factor | RowGiven)]
        for product in self.products:
            rows += self._rows_of(operations[product])
        return rows

    def _rows_of(self, operation: Operation) -> Iterator[Id]:
        for operand in operation.operands:
            operation_of = self.program.operations[operand]
            if isinstance(operation_of, Factor | RowGiven):
                yield operand
            elif isinstance(operation_of, Columns) and not self.reads_memory(operand):
                yield from self._rows_of(operation_of)

    def _share_accumulators(self) -> dict[Id, str]:
        """Products that are only added up share what they are added up in; it begins with given
        rows that are added to them (`initial`)."""
        accumulators = {product: f"a{product}" for product in self.products}
        operations = self.program.operations
        uses = [o for operation in operations for o in operation.operands]
        self.initial: dict[str, Id] = {}
        for operation in (operations[value] for value in self.needed):
            if not isinstance(operation, Total):
                continue
            terms = [term for term, scale in operation.terms if scale == 1.0]
            shared = [t for t in terms if t in accumulators and uses.count(t) == 1]
            given = [t for t in terms if isinstance(operations[t], Given)]
            if shared:
                accumulators |= dict.fromkeys(shared, f"a{shared[0]}")
            if shared and given:
                self.initial[f"a{shared[0]}"] = given[0]
        return accumulators

    def is_resident(self, depth: int, products: list[Id]) -> bool:
        """Whether weights may stay on chip: there are few rows of them, all multiply the same."""
        members = [self.product(value) for value in products]
        alike = len({product.of for product in members}) == 1
        return depth <= RESIDENT_COLUMNS and alike and not members[0].transposed

    def _by_depth(self) -> Iterator[tuple[int, list[Id]]]:
        """The products, in groups that are made in one loop."""
        depths = [self.program.dim(self.product(p).of) for p in self.products]
        for depth in dict.fromkeys(depths):
            yield depth, [p for p, d in zip(self.products, depths, strict=True) if d == depth]

    def product(self, value: Id) -> Product:
        operation = self.program.operations[value]
        assert isinstance(operation, Product)
        return operation

    def keep(self) -> None:
        """Before all steps: loads the weights that stay on chip."""
        for depth, products in self._by_depth():
            if not self.is_resident(depth, products):
                continue
            self.text.open("if RESIDENT:")
            self.text.add(f"kept_column = {self._first_block} * CELLS + tl.arange(0, CELLS)")
            self.text.add(f"all_depth_{depth} = tl.arange(0, {_power_of_2(depth)})")
            for product in products:
                weights = self._weights(product, depth, f"all_depth_{depth}", "kept_column")
                self.text.add(f"kept_{self.stage}_{product} = {weights}")
            self.text.close()

    @property
    def _first_block(self) -> str:
        """The first block of a program."""
        if not self.first:
            return "member"
        return f"(member + members - tl.cdiv({self.first}, CELLS) % members) % members"

    def _weights(self, value: Id, depth: int, row: str = "depth", column: str = "column") -> str:
        """A block of a matrix, (depth, columns)."""
        product = self.product(value)
        number = self.kernel.signature.matrices.index(product.matrix)
        strides = f"{self.dim}, 1" if product.transposed else f"1, {depth}"
        return f"weights(w{number}, {row}, {column}, {strides}, {depth}, {self.dim})"

    def write(self) -> None:
        """Writes the loop over blocks of columns: what is read, computed and stored of each."""
        text = self.text
        text.open(f"for block in range({self._first_block}, tl.cdiv({self.dim}, CELLS), members):")
        text.add("column = block * CELLS + tl.arange(0, CELLS)")
        text.add(f"used = column < {self.dim}")
        values = _Expressions(self, "column", "used", "t")
        given = [v for v in self.needed if isinstance(self.program.operations[v], Given)]
        for value in given if len(given) <= READ_AHEAD else ():
            values.name(value)
        for name in dict.fromkeys(self.accumulators.values()):
            start = self.initial.get(name)
            zeros = "tl.zeros([ROWS, CELLS], tl.float32)"
            text.add(f"{name} = {zeros if start is None else values.name(start)}")
        for depth, products in self._by_depth():
            self._multiply(depth, products)
        for effect in self.effects:
            operation = self.program.operations[effect]
            if isinstance(operation, RowSum):
                self._store_sum(effect, values.name(operation.of), values.name(operation.second))
                continue
            expression = values.name(effect)
            for value, place in self.program.stores:
                if value == effect:
                    stride, base = self.kernel.buffer(place)
                    text.add(f"put({base}, lane, {stride}, column, inside, used, {expression})")
        text.close()

    def _store_sum(self, value: Id, first: str, second: str) -> None:
        number = self.kernel.signature.sums.index(value)
        product = f"tl.where(inside[:, None] & used[None, :], {first} * {second}, 0.0)"
        where = f"p{number} + at * Q{number} + lane * Q{number} + block"
        self.text.add(f"tl.store({where}, tl.sum({product}, axis=1), mask=inside)")

    def _multiply(self, depth: int, products: list[Id]) -> None:
        """Adds products to their accumulators."""
        text = self.text
        resident = self.is_resident(depth, products)
        if resident:
            text.open("if RESIDENT:")
            text.add(f"all_depth_{depth} = tl.arange(0, {_power_of_2(depth)})")
            self._multiply_part(depth, products, resident=True)
            text.close()
            text.open("else:")
        text.open(f"for k in range(0, {depth}, DEPTH):")
        text.add("depth = k + tl.arange(0, DEPTH)")
        self._multiply_part(depth, products, resident=False)
        text.close()
        if resident:
            text.close()

    def _multiply_part(self, depth: int, products: list[Id], *, resident: bool) -> None:
        row, letter = (f"all_depth_{depth}", f"e{depth}_") if resident else ("depth", "d")
        self.text.add(f"{letter}there = {row} < {depth}")
        values = _Expressions(self, row, f"{letter}there", letter)
        for value in products:
            product = self.product(value)
            kept = f"kept_{self.stage}_{value}" if resident else self._weights(value, depth)
            number = self.kernel.signature.matrices.index(product.matrix)
            source = f"{values.name(product.of)}.to(w{number}.dtype.element_ty)"
            name = self.accumulators[value]
            self.text.add(f"{name} = dot({source}, {kept}, {name}, PRECISION)")


class _Expressions:
    """Names for values of some columns; lines that make them are written when they are first asked
    for."""

    def __init__(self, block: Block, column: str, used: str, letter: str) -> None:
        self.block, self.column, self.used, self.letter = block, column, used, letter
        self.known: dict[Id, str] = {}

    def name(self, value: Id) -> str:
        if value not in self.known:
            line = self._line(value, self.block.program.operations[value])
            self.known[value] = f"{self.letter}{value}"
            self.block.text.add(f"{self.known[value]} = {line}")
        return self.known[value]

    def _read(self, place: BufferColumns, when: str = "") -> str:
        stride, base = self.block.kernel.buffer(place, when)
        return f"tile({base}, lane, {stride}, {self.column}, inside{when}, {self.used})"

    def _vector(self, number: int, *, by_step: bool = False) -> str:
        position = self.block.kernel.signature.vectors.index(number)
        base = f"v{position} + turn * V{position}" if by_step else f"v{position}"
        return f"vector({base}, {self.column}, {self.used})"

    def _line(self, value: Id, operation: Operation) -> str:
        places = self.block.program.places
        if self.block.reads_memory(value):
            return self._read(places[value])
        match operation:
            case Given(buffer=buffer, column=column, shift=shift):
                when = {-1: "_earlier", 0: "", 1: "_later"}[shift]
                return self._read(BufferColumns(buffer, column), when)
            case Earlier(of=of):
                return self._read(places[of], "_earlier")
            case Product():
                return self.block.accumulators[value]
            case Total(terms=terms, constant=constant):
                return self._total(terms, constant)
            case Multiply(of=of, second=second):
                return f"{self.name(of)} * {self.name(second)}"
            case Scaled(of=of, row=row):
                return f"{self.name(of)} * r{row}[:, None]"
            case Weighted(of=of, vector=vector):
                return f"{self.name(of)} * {self._vector(vector)}"
            case Offset(of=of, vector=vector):
                return f"{self.name(of)} + {self._vector(vector)}"
            case Function(of=of, name=name):
                return f"{name}({self.name(of)})"
            case Slope(of=of, name=name):
                return f"{name}_slope({self.name(of)})"
            case Push(of=of, name=name, vector=vector):
                return f"{name}_push({self.name(of)}) * {self._vector(vector, by_step=True)}"
        raise TypeError(f"no text for {type(operation).__name__}")

    def _total(self, terms: tuple[tuple[Id, float], ...], constant: float) -> str:
        """A sum; products that share an accumulator are there once."""
        block = self.block
        started = {block.initial.get(block.accumulators.get(term, "")) for term, _ in terms}
        parts = {}
        for term, scale in terms:
            if term in started and scale == 1.0:
                continue
            name = self.name(term)
            key = block.accumulators.get(term, name)
            parts[key] = name if scale == 1.0 else f"{scale!r} * {name}"
        summands = list(parts.values())
        if constant or not summands:
            summands.append(f"{constant!r}")
        return (
            " + ".join(summands)
            if terms
            else f"tl.zeros([ROWS, CELLS], tl.float32) + {summands[0]}"
        )


def _power_of_2(number: int) -> int:
    """The least power of 2 that is not less, but 16, which tensor cores need, at least."""
    return max(16, 1 << (number - 1).bit_length())
