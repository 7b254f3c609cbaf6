"""What is known of a loop that is a recurrence (`nnet.kernels.recurrence.program`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nnet.kernels.recurrence.program import Id, Recurrence
from nnet.plan import ir
from nnet.plan.ir import Plan, Value

VIEWS = (ir.Carried, ir.Look, ir.Columns, ir.IfDefined)
"""Operations that compute nothing."""


BufferKind = Literal["gates", "mask", "boundaries", "rows"]
"""What comes from outside: what an affine operation adds up there, masks of dropout, marks where
derivatives may be zeroed, and other rows."""


@dataclass(frozen=True)
class ParameterBlock:
    """Numbers of a component's array `name`: rows and columns of a matrix, or of a vector `repeats`
    times `columns` of row number `rows.start`."""

    component: str
    name: str
    rows: slice
    columns: slice


@dataclass
class LoopRecurrence:
    """A loop as a recurrence.

    Attributes:
        values: of the loop.
        delay: frames from a row to the one that reads its state; negative if time runs backward.
        lanes: for each value of the loop the operations that are its columns, side by side.
        raw: the same for the sums of affine operations, before their epilogues.
        inner, fed: what a GRU's tanh is taken of, and what its own weights multiply.
        results: of each of a component's nonlinearities, in the order of its statistics.
        matrices, vectors: what they are, by number.
        repairs: which value, which of its nonlinearities and which first column a vector of
            self-repair belongs to.
        outer: by buffer, the value outside the loop and who reads it as which operand.
        affines, masks, truncations, cells: values, by what is to be done beside the kernel.
    """

    source: Recurrence
    values: tuple[Value, ...]
    delay: int
    lanes: dict[Value, tuple[Id, ...]]
    raw: dict[Value, tuple[Id, ...]] = field(default_factory=dict)
    inner: dict[Value, tuple[Id, ...]] = field(default_factory=dict)
    fed: dict[Value, tuple[Id, ...]] = field(default_factory=dict)
    results: dict[Value, list[tuple[Id, ...]]] = field(default_factory=dict)
    matrices: list[ParameterBlock] = field(default_factory=list)
    vectors: list[ParameterBlock] = field(default_factory=list)
    repairs: dict[int, tuple[Value, int, int]] = field(default_factory=dict)
    outer: dict[str, tuple[Value, Value, int]] = field(default_factory=dict)
    affines: list[Value] = field(default_factory=list)
    masks: list[Value] = field(default_factory=list)
    truncations: list[Value] = field(default_factory=list)
    cells: list[Value] = field(default_factory=list)

    def buffer(self, rows: BufferKind, value: Value) -> str:
        """The name of a buffer that belongs to a value; loops of the same kind have the same."""
        return f"{rows} {self.values.index(value)}"


class NoRecurrence(Exception):
    """The loop has something that a recurrence cannot express."""


def has_outer_part(plan: Plan, loop: LoopRecurrence, value: Value) -> bool:
    """Whether an affine operation reads anything outside the loop."""
    operation = plan.operations[value]
    assert isinstance(operation, ir.SplicedAffine)
    return any(term.value not in loop.lanes for term in operation.terms)
