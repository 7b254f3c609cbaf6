"""Loops over time as recurrences (`nnet.kernels.recurrence.program`): one kernel each way.

Every operation of a loop that works on single rows is taken apart into products with matrices and
what is done column by column: LSTM and GRU layers, whether of one component or of many, and any
other loop of such operations whose recurrences all have the same delay.
"""

from __future__ import annotations

import numpy as np

from nnet.kernels.recurrence.program import (
    Builder,
    Function,
    FunctionName,
    Given,
    Id,
    Offset,
    Product,
    Recurrence,
)
from nnet.plan import ir
from nnet.plan.groups import Loop
from nnet.plan.ir import Plan, Value
from nnet.plan.layout import Layout
from nnet.plan.loops.columns import pieces
from nnet.plan.recurrence.components import FUNCTIONS, Components
from nnet.plan.recurrence.loop import VIEWS, LoopRecurrence, NoRecurrence, ParameterBlock
from nnet.plan.times import IntArray, Shift, Times


def recurrence_of(plan: Plan, loop: Loop) -> LoopRecurrence | None:
    """The recurrence of a loop; None if it has none."""
    try:
        return _Lowering(plan, loop).lower()
    except NoRecurrence:
        return None


class _Lowering:
    def __init__(self, plan: Plan, loop: Loop) -> None:
        self.plan, self.loop = plan, loop
        self.builder = Builder()
        self.pieces = pieces(plan, loop.values)
        self.waiting: list[tuple[Value, tuple[Id, ...]]] = []
        self.recurrence = LoopRecurrence(Recurrence(()), loop.values, _delay(plan, loop), {})
        self.components = Components(self.builder, self.pieces, self.recurrence)

    def lower(self) -> LoopRecurrence:
        recurrence = self.recurrence
        for value in self.loop.values:
            recurrence.lanes[value] = self._lanes(value, self.plan.operations[value])
        for of, earlier in self.waiting:
            for before, lane in zip(earlier, recurrence.lanes[of], strict=True):
                self.builder.connect(before, lane)
        if not recurrence.matrices:
            raise NoRecurrence
        truncations = tuple(self.components.truncations)
        recurrence.source = Recurrence(tuple(self.builder.operations), (), truncations)
        return recurrence

    def _lanes(self, value: Value, operation: ir.Operation) -> tuple[Id, ...]:
        match operation:
            case ir.Carried(of=of):
                lanes = tuple(self.builder.later(dim) for _, dim in self.pieces[value])
                self.waiting.append((of, lanes))
                return lanes
            case ir.Look(source=source) | ir.IfDefined(source=source):
                return self.recurrence.lanes[source.value]
            case ir.Columns(source=source, offset=offset, dim=dim):
                return self._taken(source.value, offset, dim)
            case ir.Append(sources=sources):
                return tuple(
                    lane for n, s in enumerate(sources) for lane in self._operand(value, n, s.value)
                )
            case ir.Sum(sources=sources, scales=scales):
                return self._sum(value, sources, scales)
            case ir.Apply(component=component, source=source):
                spec = self.plan.components[component]
                lanes = self._operand(value, 0, source.value)
                return self.components.apply(value, spec, component, lanes)
            case ir.SplicedAffine():
                return self._affine(value, operation)
        raise NoRecurrence

    def _taken(self, value: Value, offset: int, dim: int) -> tuple[Id, ...]:
        """Columns of a value in the loop."""
        pairs = zip(self.pieces[value], self.recurrence.lanes[value], strict=True)
        return tuple(lane for (first, _), lane in pairs if offset <= first < offset + dim)

    def _operand(self, value: Value, number: int, operand: Value) -> tuple[Id, ...]:
        """The columns of an operand, inside the loop or outside."""
        if operand in self.recurrence.lanes:
            return self.recurrence.lanes[operand]
        if operand in self.loop.phases:
            raise NoRecurrence
        buffer = f"{self.recurrence.buffer('rows', value)}.{number}"
        self.recurrence.outer[buffer] = (operand, value, number)
        return tuple(
            self.builder.add(Given(dim, buffer, first)) for first, dim in self.pieces[operand]
        )

    def _sum(
        self, value: Value, sources: tuple[ir.Source, ...], scales: tuple[float, ...]
    ) -> tuple[Id, ...]:
        constant, terms = 0.0, []
        for number, (source, scale) in enumerate(zip(sources, scales, strict=True)):
            operation = self.plan.operations[source.value]
            if isinstance(operation, ir.Constant):
                constant += scale * operation.number
            else:
                terms.append((self._operand(value, number, source.value), scale))
        return tuple(
            self.builder.total([(lanes[n], scale) for lanes, scale in terms], constant)
            for n in range(len(self.pieces[value]))
        )

    def _affine(self, value: Value, operation: ir.SplicedAffine) -> tuple[Id, ...]:
        recurrence, parts = self.recurrence, self.pieces[value]
        recurrence.affines.append(value)
        inner = [term.value in recurrence.lanes for term in operation.terms]
        spec = self.plan.components[operation.component]
        results: list[Id] = []
        for first, dim in parts:
            terms = self._products(operation, first, dim)
            if not all(inner):
                given = Given(dim, recurrence.buffer("gates", value), first, scratch=True)
                terms.append((self.builder.add(given), 1.0))
            lane = self.builder.total(terms)
            if all(inner) and spec.bias is not None:
                lane = self.components.vector(Offset, lane, operation.component, "bias", first)
            results.append(lane)
        recurrence.raw[value] = tuple(results)
        return self._epilogue(value, operation, tuple(results))

    def _products(
        self, operation: ir.SplicedAffine, first: int, dim: int
    ) -> list[tuple[Id, float]]:
        """The products with what is in the loop, for rows of the matrix."""
        products: list[tuple[Id, float]] = []
        column = 0
        for term in operation.terms:
            if term.value in self.recurrence.lanes:
                if term.maps or (operation.ones and column == 0):
                    raise NoRecurrence
                at = column
                for lane in self._taken(term.value, term.offset, term.dim):
                    columns = slice(at, at := at + self.builder.dim(lane))
                    part = ParameterBlock(
                        operation.component, "linear", slice(first, first + dim), columns
                    )
                    self.recurrence.matrices.append(part)
                    number = len(self.recurrence.matrices) - 1
                    products.append((self.builder.add(Product(dim, lane, number)), term.scale))
            elif term.value in self.loop.phases:
                raise NoRecurrence
            column += term.dim
        return products

    def _epilogue(
        self, value: Value, operation: ir.SplicedAffine, lanes: tuple[Id, ...]
    ) -> tuple[Id, ...]:
        if operation.activation:
            names: dict[str, FunctionName] = {name: name for name in FUNCTIONS.values()}
            name = names[operation.activation]
            lanes = tuple(self.builder.add(Function(self.builder.dim(x), x, name)) for x in lanes)
        if operation.scale_offset:
            lanes = self.components.scaled(
                value, operation.scale_offset, lanes, "scales", "offsets"
            )
        count = len(operation.terms)
        for number, rows in enumerate(operation.bypass, start=count):
            if rows.maps or rows.offset or rows.dim != self.plan.dim(rows.value):
                raise NoRecurrence
            others = self._operand(value, number, rows.value)
            pairs = zip(lanes, others, strict=True)
            lanes = tuple(self.builder.total([(a, 1.0), (b, rows.scale)]) for a, b in pairs)
        return lanes


def _delay(plan: Plan, loop: Loop) -> int:
    """Frames from a row to the one that reads its state, which must be the same for all."""
    shifts: dict[Value, int | None] = {}
    delays: set[int | None] = set()
    for value in loop.values:
        operation = plan.operations[value]
        sources = [shifts.get(o) for o in operation.operands if o in loop.phases]
        match operation:
            case ir.Carried():
                shifts[value] = 0
            case ir.Look(maps=maps):
                if None in sources or not all(isinstance(step, Shift) for step in maps):
                    raise NoRecurrence
                by = sum(step.by for step in maps if isinstance(step, Shift))
                shifts[value] = by + (sources[0] or 0)
            case _ if isinstance(operation, VIEWS):
                shifts[value] = sources[0]
            case _:
                delays.update(shift for shift in sources if shift is not None)
                shifts[value] = None
    if len(delays) != 1 or 0 in delays:
        raise NoRecurrence
    (delay,) = delays
    assert delay is not None
    return -delay


def fits(plan: Plan, layout: Layout, loop: LoopRecurrence) -> Times | None:
    """The times of a loop's rows under a layout, if it is the recurrence there.

    They are regular and the same for all that reads values outside the loop; other values have
    some of them. States come from rows of the same grid or, at the edge, from nowhere.
    """
    computed = {v for v in loop.lanes if not isinstance(plan.operations[v], VIEWS)}
    times = max((layout.times[v] for v in computed), key=len)
    if not times.regular or loop.delay % times.step:
        return None
    grid = times.array()
    for value in loop.lanes:
        own = layout.times[value]
        if not own.count:
            continue
        if isinstance(plan.operations[value], ir.IfDefined):
            whole = _is_defined(plan, layout, value, grid)
        elif value in computed:
            some = bool(np.isin(own.array(), grid).all())
            whole = some and (own == times or not _reads_outside(plan, loop, value))
        else:
            continue
        if not whole:
            return None
    return times


def _is_defined(plan: Plan, layout: Layout, value: Value, grid: IntArray) -> bool:
    """Whether what a value looks at is defined where it looks at the grid's times."""
    own, piece = layout.times[value], layout.reads[value][0]
    defined = np.zeros(own.count, dtype=bool)
    defined[slice(None) if piece.into is None else piece.into] = True
    return bool((np.isin(own.array() + _shift(plan, value), grid) == defined).all())


def _shift(plan: Plan, value: Value) -> int:
    """How far from its own row a chain of views looks."""
    shift = 0
    operation = plan.operations[value]
    while isinstance(operation, ir.Look | ir.IfDefined | ir.Columns):
        if isinstance(operation, ir.Look):
            shift += sum(step.by for step in operation.maps if isinstance(step, Shift))
        operation = plan.operations[operation.source.value]
    return shift


def _reads_outside(plan: Plan, loop: LoopRecurrence, value: Value) -> bool:
    return any(
        operand not in loop.lanes and not isinstance(plan.operations[operand], ir.Constant)
        for operand in plan.operations[value].operands
    )
