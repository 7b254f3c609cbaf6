"""Components that work unit by unit as programs of independent rows, each way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from nnet.kernels.cells import definitions
from nnet.kernels.recurrence.gradient import Both, differentiate, forward_of
from nnet.kernels.recurrence.program import (
    BufferColumns,
    Builder,
    Function,
    FunctionName,
    Given,
    Id,
    Multiply,
    Product,
    Recurrence,
    RowGiven,
    Weighted,
)

REPAIRS = 1 << 16
"""The first number of a vector of self-repair; those of weights come before it."""

OUTPUT, KEPT, FED, INNER = "output", "kept", "fed", "before tanh"
"""Buffers: of the output, of what is kept for the derivative, of what a matrix multiplies, and of
the derivative with respect to what a GRU's tanh is taken of, to which nothing else is added."""


def gradient_of(buffer: str) -> str:
    """The buffer of the derivative with respect to what is in a buffer."""
    return f"of {buffer}"


@dataclass(frozen=True)
class Program:
    """A program of rows that do not depend on each other.

    Attributes:
        name: of its functions in C++.
    """

    name: str
    recurrence: Recurrence


@dataclass(frozen=True)
class Cell:
    """A component's part that works unit by unit.

    Attributes:
        name: of the kind; the names of its programs begin with it.
        inputs: the buffers that it reads, in the order of the component's `input_blocks`; of these
            `masks` have no derivative.
        outputs: that are its output, side by side.
        stores: what else is stored, that the derivative reads.
        inner: whose gradient is also put in memory of its own (`INNER`).
        kept: nonlinearities whose results may be kept, so that they are not computed again.
        weights, repairs: the numbers of its vectors.
    """

    name: str
    inputs: tuple[str, ...]
    source: Recurrence
    outputs: tuple[Id, ...]
    stores: tuple[tuple[Id, BufferColumns], ...] = ()
    inner: Id = -1
    kept: tuple[Id, ...] = ()
    weights: frozenset[int] = frozenset()
    repairs: frozenset[int] = frozenset()
    counted: frozenset[int] = frozenset()

    def forward(self, *, keeps: bool = False) -> Program:
        """The program from `inputs` to `output`; if it `keeps`, also to `kept`, which saves the
        derivative time."""
        keeps = keeps and bool(self.kept)
        name = f"{self.name}_forward{'_keeping' if keeps else ''}"
        return Program(name, _forward(self, keeps))

    def backward(self, *, kept: bool = False, repaired: bool = False) -> Program:
        """The program of the derivatives with respect to `inputs`, and of sums over rows.

        Args:
            kept: it reads what was kept, besides the derivative with respect to `output`, `inputs`
                and `output`; otherwise it computes that again.
            repaired: with self-repair.
        """
        kept = kept and bool(self.kept)
        variant = ("_from_kept" if kept else "") + ("_repaired" if repaired else "")
        return Program(
            f"{self.name}_backward{variant}", _both(self, kept, repaired).backward.program
        )

    def _places(self, keeps: bool) -> dict[Id, list[BufferColumns]]:
        dim = self.source.dim(self.outputs[0])
        places = {v: [BufferColumns(OUTPUT, n * dim)] for n, v in enumerate(self.outputs)}
        places |= {value: [place] for value, place in self.stores}
        if keeps:
            places |= {value: [BufferColumns(KEPT, n * dim)] for n, value in enumerate(self.kept)}
        return places


@cache
def _forward(cell: Cell, keeps: bool) -> Recurrence:
    return forward_of(cell.source, cell._places(keeps)).program


@cache
def _both(cell: Cell, kept: bool, repaired: bool) -> Both:
    dim = cell.source.dim(cell.outputs[0])
    given = {v: BufferColumns(gradient_of(OUTPUT), n * dim) for n, v in enumerate(cell.outputs)}
    wanted = {
        value: [BufferColumns(gradient_of(operation.buffer), operation.column)]
        for value, operation in enumerate(cell.source.operations)
        if isinstance(operation, Given)
    }
    if cell.inner >= 0:
        wanted[cell.inner].insert(0, BufferColumns(INNER))
    return differentiate(
        cell.source,
        cell._places(kept),
        given,
        wanted,
        repaired=cell.repairs if repaired else frozenset(),
        summed=cell.weights,
        counted=cell.counted if repaired else frozenset(),
    )


class _Source:
    """A cell that is being defined."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.bent: dict[int, Id] = {}

    def given(self, buffer: str, dim: int, blocks: int = 1) -> Sequence[Id]:
        return [self.builder.add(Given(dim, buffer, n * dim)) for n in range(blocks)]

    def weigh(self, lane: Id, number: int) -> Id:
        return self.builder.add(Weighted(self.builder.dim(lane), lane, number))

    def bend(self, name: FunctionName, lane: Id, number: int) -> Id:
        operation = Function(self.builder.dim(lane), lane, name, REPAIRS + number)
        self.bent[number] = self.builder.add(operation)
        return self.bent[number]

    def multiply(self, first: Id, second: Id) -> Id:
        return self.builder.add(Multiply(self.builder.dim(first), first, second))

    @property
    def source(self) -> Recurrence:
        return Recurrence(tuple(self.builder.operations))


@cache
def lstm_cell(cells: int, *, dropout: bool = False) -> Cell:
    """nnet3's LstmNonlinearityComponent: from x_i, x_f, x_g and x_o side by side (`gates`), c'
    (`previous`) and three columns (`masks`) to c and m. Its weights are the peepholes."""
    unit = _Source()
    gates, (previous,) = unit.given("gates", cells, 4), unit.given("previous", cells)
    masks = [unit.builder.add(RowGiven("masks", n)) for n in range(3)] if dropout else []
    outputs = definitions.lstm(unit.builder, gates, previous, unit.weigh, unit.bend, masks)
    repairs = frozenset(range(REPAIRS, REPAIRS + 5))
    return Cell(
        "lstm_dropout" if dropout else "lstm",
        ("gates", "previous", "masks") if dropout else ("gates", "previous"),
        unit.source,
        outputs,
        kept=tuple(unit.bent[n] for n in range(4)),
        weights=frozenset(range(3)),
        repairs=repairs,
        counted=repairs,
    )


@cache
def output_gru_cell(cells: int) -> Cell:
    """nnet3's OutputGruNonlinearityComponent: from z (`update`), x_h (`inner`) and c' (`previous`)
    to h and c; w c' feeds back."""
    unit = _Source()
    update, inner, previous = (
        lane for name in ("update", "inner", "previous") for lane in unit.given(name, cells)
    )
    fed = unit.builder.total([(inner, 1.0), (unit.weigh(previous, 0), 1.0)])
    outputs = definitions.gru(unit.builder, update, fed, previous, unit.bend)
    return Cell(
        "output_gru",
        ("update", "inner", "previous"),
        unit.source,
        outputs,
        inner=inner,
        weights=frozenset([0]),
        repairs=frozenset([REPAIRS]),
    )


@cache
def gru_cell(cells: int, states: int) -> Cell:
    """nnet3's GruNonlinearityComponent: from z (`update`), r (`reset`), x_h (`inner`), c'
    (`previous`) and s' (`state`) to h and c; W (r s') feeds back, and r s' is left in `fed`."""
    unit = _Source()
    (update,), (inner,), (previous,) = (
        unit.given(name, cells) for name in ("update", "inner", "previous")
    )
    (reset,), (state,) = unit.given("reset", states), unit.given("state", states)
    fed = unit.multiply(reset, state)
    total = unit.builder.total([(inner, 1.0), (unit.builder.add(Product(cells, fed, 0)), 1.0)])
    outputs = definitions.gru(unit.builder, update, total, previous, unit.bend)
    return Cell(
        "gru",
        ("update", "reset", "inner", "previous", "state"),
        unit.source,
        outputs,
        stores=((fed, BufferColumns(FED)),),
        inner=inner,
        repairs=frozenset([REPAIRS]),
    )
