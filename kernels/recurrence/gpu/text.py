"""From a recurrence to the text of its kernel: one launch for all steps.

The columns that a stage makes are cut into blocks of CELLS, which the programs of a group of rows
share. In each stage a program makes its blocks of everything that is stored, one group of columns
after the other; then all programs of the group meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from nnet.kernels.recurrence.gpu.blocks import Block
from nnet.kernels.recurrence.gpu.signature import Text, signature_of
from nnet.kernels.recurrence.program import (
    BufferColumns,
    Factor,
    Id,
    Operation,
    Recurrence,
    RowGiven,
    RowSum,
)
from nnet.kernels.recurrence.stages import stages


class KernelText:
    """The text of a program's kernel, with the name `kernel`."""

    def __init__(self, program: Recurrence, loops: int = 1) -> None:
        self.program = program
        self.signature = signature_of(program, loops)
        self.stages: Sequence[int] = stages(program)
        self.text = Text()

    def make(self) -> str:
        """The kernel's whole text, a function in Triton's language."""
        parameters = [*self.signature.names()]
        parameters += [f"{name}: tl.constexpr" for name in self.signature.constants()]
        self._start()
        for number in range(self._count):
            self._stage(number)
            if not self.signature.alone:
                self.text.add("met += members")
                self.text.add("meet(counter, members, met)")
        head = ["def kernel(", *(f"    {name}," for name in parameters), "):"]
        return "\n".join([*head, *self.text.lines, ""])

    def _start(self) -> None:
        text = self.text
        text.add("member = tl.program_id(0)")
        if self.signature.alone:
            text.add("members = tl.num_programs(0)")
        text.add("lane = tl.program_id(1) * ROWS + tl.arange(0, ROWS)")
        if not self.signature.alone:
            text.add(
                "counter = counters + tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)"
            )
        alone = self.signature.loops == 1
        for loop, lines in self.signature.selections():
            if not alone:
                text.open("else:" if loop else "if tl.program_id(2) == 0:")
            for line in lines:
                text.add(line)
            if not alone:
                text.close()
        text.add("ahead = tl.where(reverse != 0, -width, width)")
        if not self.signature.alone:
            text.add("met = 0")
        for number in range(self._count):
            for block in self._blocks(number):
                block.keep()
        text.open("for turn in range(tl.cdiv(rows, width)):")
        text.add("start = tl.where(reverse != 0, rows - (turn + 1) * width, turn * width)")
        text.add("row = start + lane")
        text.add("inside = (lane < width) & (row >= 0) & (row < rows)")
        text.add("inside_later = inside & (row + ahead >= 0) & (row + ahead < rows)")
        text.add("inside_earlier = inside & (row - ahead >= 0) & (row - ahead < rows)")
        text.add("at = tl.cast(start, tl.int64)  # within a step 32 bits are enough")
        text.add("at_later = at + ahead")
        text.add("at_earlier = at - ahead")

    @cached_property
    def _count(self) -> int:
        """The number of stages of a step."""
        return 1 + max(self._stage_of(effect) for effect in self._effects)

    @cached_property
    def _effects(self) -> list[Id]:
        """The operations that leave something in memory: what is stored, and sums over columns."""
        return list(dict.fromkeys((*self.program.places, *self.signature.sums)))

    def _stage_of(self, effect: Id) -> int:
        operation = self.program.operations[effect]
        if isinstance(operation, RowSum):
            return max(self.stages[operation.of], self.stages[operation.second])
        return self.stages[effect]

    def _in_stage(self, number: int) -> list[Id]:
        return [effect for effect in self._effects if self._stage_of(effect) == number]

    def width(self, effect: Id) -> int:
        """The columns that an effect is made of."""
        operation = self.program.operations[effect]
        return self.program.dim(operation.of if isinstance(operation, RowSum) else effect)

    def _is_factor(self, effect: Id) -> bool:
        return isinstance(self.program.operations[effect], Factor | RowGiven)

    def _blocks(self, number: int) -> list[Block]:
        """A stage's effects, in groups that have nothing in common. They begin with different
        programs, so that all have something to do."""
        groups: list[list[Id]] = []
        for effect in self._in_stage(number):
            if self._is_factor(effect):
                continue
            joined = [effect]
            own = set(Block(self, number, joined).needed)
            for group in list(groups):
                if self.width(group[0]) == self.width(effect) and own & set(
                    Block(self, number, group).needed
                ):
                    joined = [*group, *joined]
                    groups.remove(group)
            groups.append(joined)
        blocks, first = [], 0
        for group in groups:
            blocks.append(Block(self, number, group, first))
            first += self.width(group[0])
        return blocks

    def _stage(self, number: int) -> None:
        blocks = self._blocks(number)
        factors = [e for e in self._in_stage(number) if self._is_factor(e)]
        for block in blocks:
            factors += block.rows()
        self._factors(number, dict.fromkeys(factors))
        for block in blocks:
            block.write()

    def _factors(self, stage: int, factors: Iterable[Id]) -> None:
        """Numbers of rows, as `r3`; they are stored in their own stage."""
        for value in factors:
            operation = self.program.operations[value]
            self.text.add(f"r{value} = {self._row(operation)}")
            if value in self.program.places and self.stages[value] == stage:
                stride, base = self.buffer(self.program.places[value])
                self.text.open("if member == 0:")
                self.text.add(f"tl.store({base} + lane * {stride}, r{value}, mask=inside)")
                self.text.close()

    def _row(self, operation: Operation) -> str:
        if isinstance(operation, RowGiven):
            stride, base = self.buffer(BufferColumns(operation.buffer, operation.column))
            return f"numbers({base}, lane, {stride}, inside)"
        assert isinstance(operation, Factor)
        terms = [self._sum(term) for term in operation.sums]
        if operation.name == "renorm slope":
            return f"renorm_slope({terms[0]}, {terms[1]}, {operation.numbers[0]!r})"
        total = " + ".join(terms)
        if operation.name == "renorm":
            return f"renorm_factor({total}, {operation.numbers[0]!r})"
        numbers = ", ".join(repr(number) for number in operation.numbers)
        marked = "0"
        if operation.boundaries:
            stride, base = self.buffer(BufferColumns(operation.boundaries))
            marked = f"numbers({base}, lane, {stride}, inside)"
        return f"truncation_factor({total}, {marked}, {numbers})"

    def _sum(self, value: Id) -> str:
        operation = self.program.operations[value]
        if isinstance(operation, RowSum):
            number = self.signature.sums.index(value)
            when = "_earlier" if operation.earlier else ""
            where = f"p{number} + at{when} * Q{number}"
            return f"summed({where}, lane, inside{when}, Q{number})"
        return self._row(operation)

    def buffer(self, place: BufferColumns, when: str = "") -> tuple[str, str]:
        """The distance between rows of a buffer, and where the step's first row begins."""
        number = self.signature.buffers.index(place.buffer)
        return f"S{number}", f"b{number} + at{when} * S{number} + {place.column}"
