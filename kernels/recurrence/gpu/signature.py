"""The arguments of a recurrence's kernel, and the lines of its text.

Arguments are buffers `b0`, .., matrices `w0`, .., vectors `v0`, .. and parts of sums over columns
`p0`, .., for each loop that runs: names end in `_0`, and in `_1` for a second loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from nnet.kernels.recurrence.program import Earlier, Id, Product, Recurrence, RowSum

CONSTANTS = ("RESIDENT", "PRECISION", "ROWS", "CELLS", "DEPTH")


@dataclass(frozen=True)
class Signature:
    """The arguments of a kernel, in their order.

    Attributes:
        buffers, sums: names, and sums over columns; an argument's number is their position.
        loops: 1, or 2 that run side by side.
        alone: whether programs never meet.
    """

    buffers: tuple[str, ...]
    matrices: tuple[int, ...]
    vectors: tuple[int, ...]
    sums: tuple[Id, ...]
    loops: int
    alone: bool

    def names(self) -> Iterator[str]:
        """The names of all arguments but the constants."""
        for loop in range(self.loops):
            for letter, count in self._letters:
                yield from (f"{letter}{number}_{loop}" for number in range(count))
            yield from (f"{name}_{loop}" for name in ("rows", "width", "reverse"))
        if not self.alone:
            yield from ("counters", "members")

    def constants(self) -> Iterator[str]:
        """Distances between rows of buffers, vectors and sums, and how it is all computed."""
        for letter, of in zip("SVQ", (self.buffers, self.vectors, self.sums), strict=True):
            yield from (f"{letter}{number}" for number in range(len(of)))
        yield from CONSTANTS

    @property
    def _letters(self) -> tuple[tuple[str, int], ...]:
        counts = (self.buffers, self.matrices, self.vectors, self.sums)
        return tuple(zip("bwvp", map(len, counts), strict=True))

    def selections(self) -> Iterator[tuple[int, list[str]]]:
        """For each loop, lines that give its arguments their short names."""
        own = [f"{letter}{n}" for letter, count in self._letters for n in range(count)]
        for loop in range(self.loops):
            yield loop, [f"{name} = {name}_{loop}" for name in (*own, "rows", "width", "reverse")]


@cache
def signature_of(program: Recurrence, loops: int) -> Signature:
    """The arguments of a program's kernel."""
    sums = tuple(v for v, o in enumerate(program.operations) if isinstance(o, RowSum))
    buffers = dict.fromkeys((*program.widths, *program.boundaries))
    numbers = tuple(program.matrices), tuple(program.vectors), sums
    return Signature(tuple(buffers), *numbers, loops, is_rowwise(program))


def is_rowwise(program: Recurrence) -> bool:
    """Whether rows do not depend on each other, and each column only on itself."""
    return not any(isinstance(o, Earlier | Product | RowSum) for o in program.operations)


@dataclass
class Text:
    """The lines of a kernel's text, each indented by where it stands."""

    lines: list[str] = field(default_factory=list)
    depth: int = 1

    def add(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def open(self, line: str) -> None:
        """A line that the following ones belong to, up to `close`."""
        self.add(line)
        self.depth += 1

    def close(self) -> None:
        self.depth -= 1
