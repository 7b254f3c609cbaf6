"""Components of a loop as operations of a recurrence (`nnet.kernels.recurrence.program`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nnet.kernels.cells import definitions
from nnet.kernels.cells.cell import REPAIRS
from nnet.kernels.recurrence.program import (
    Builder,
    Columns,
    Factor,
    Function,
    FunctionName,
    Given,
    Id,
    Multiply,
    Offset,
    Product,
    RowGiven,
    RowSum,
    Scaled,
    Truncated,
    Truncation,
    Weighted,
)
from nnet.plan.ir import Value
from nnet.plan.loops.columns import Piece
from nnet.plan.recurrence.loop import LoopRecurrence, NoRecurrence, ParameterBlock

FUNCTIONS: dict[str, FunctionName] = {
    "SigmoidComponent": "sigmoid",
    "TanhComponent": "tanh",
    "RectifiedLinearComponent": "relu",
}
SCALES = (
    "PerElementScaleComponent",
    "NaturalGradientPerElementScaleComponent",
    "FixedScaleComponent",
)
SCALES_AND_OFFSETS = ("ScaleAndOffsetComponent", "ScaleOffset")
MASKS = ("DropoutComponent", "GeneralDropoutComponent")


class Components:
    """Adds what components compute to a recurrence that is being built.

    Args:
        pieces: of the loop's values.
        recurrence: where it is noted what the operations are.
    """

    def __init__(
        self,
        builder: Builder,
        pieces: Mapping[Value, list[Piece]],
        recurrence: LoopRecurrence,
    ) -> None:
        self.builder, self.pieces, self.recurrence = builder, pieces, recurrence
        self.truncations: list[Truncation] = []

    def vector(
        self, kind: Callable[[int, Id, int], Columns], lane: Id, component: str, name: str, at: int
    ) -> Id:
        """An operation with a vector: numbers from `at` on of an array, seen as one row."""
        dim = self.builder.dim(lane)
        self.recurrence.vectors.append(
            ParameterBlock(component, name, slice(0, 1), slice(at, at + dim))
        )
        return self.builder.add(kind(dim, lane, len(self.recurrence.vectors) - 1))

    def scaled(
        self, value: Value, component: str, lanes: tuple[Id, ...], scales: str, offsets: str = ""
    ) -> tuple[Id, ...]:
        """Columns times a component's array `scales`, plus its array `offsets` if there is one."""
        results = []
        for (first, _), lane in zip(self.pieces[value], lanes, strict=True):
            weighted = self.vector(Weighted, lane, component, scales, first)
            results.append(
                self.vector(Offset, weighted, component, offsets, first) if offsets else weighted
            )
        return tuple(results)

    def apply(
        self, value: Value, spec: Any, component: str, lanes: tuple[Id, ...]
    ) -> tuple[Id, ...]:
        """The columns of a component's output.

        Args:
            lanes: the columns of its input.

        Raises:
            NoRecurrence: a recurrence cannot express what it computes.
        """
        name = spec.type_name
        if name in FUNCTIONS:
            self.recurrence.cells.append(value)
            return self._functions(FUNCTIONS[name], lanes, value)
        if name == "ElementwiseProductComponent":
            return self._multiplied(lanes, spec.input_dim // spec.output_dim)
        if name == "BackpropTruncationComponent":
            return self._truncated(value, spec, lanes)
        if name in MASKS:
            self.recurrence.masks.append(value)
            given = [
                Given(dim, self.recurrence.buffer("mask", value), first)
                for first, dim in self.pieces[value]
            ]
            pairs = zip(lanes, given, strict=True)
            return tuple(self._multiply(lane, self.builder.add(mask)) for lane, mask in pairs)
        if name == "NormalizeComponent":
            return (self._normalized(spec, lanes),)
        self.recurrence.cells.append(value)
        if name in SCALES:
            return self.scaled(value, component, lanes, "scales")
        if name in SCALES_AND_OFFSETS and len(spec.scales) == spec.input_dim:
            return self.scaled(value, component, lanes, "scales", "offsets")
        if name == "LstmNonlinearityComponent":
            return self._lstm(value, spec, component, lanes)
        if name == "GruNonlinearityComponent":
            return self._gru(value, spec, component, lanes)
        if name == "OutputGruNonlinearityComponent":
            return self._output_gru(value, component, lanes)
        raise NoRecurrence

    def _function(self, name: FunctionName, lane: Id, value: Value, number: int, at: int) -> Id:
        """A nonlinearity for columns from `at` on, with a vector of self-repair of its own."""
        dim, repair = self.builder.dim(lane), REPAIRS + len(self.recurrence.repairs)
        self.recurrence.repairs[repair] = (value, number, at)
        return self.builder.add(Function(dim, lane, name, repair))

    def _functions(self, name: FunctionName, lanes: tuple[Id, ...], value: Value) -> tuple[Id, ...]:
        """A nonlinearity whose steps are repaired one by one."""
        pairs = zip(self.pieces[value], lanes, strict=False)
        results = tuple(self._function(name, lane, value, 0, at) for (at, _), lane in pairs)
        self.recurrence.results[value] = [results]
        return results

    def _multiply(self, first: Id, second: Id) -> Id:
        return self.builder.add(Multiply(self.builder.dim(first), first, second))

    def _multiplied(self, lanes: tuple[Id, ...], factors: int) -> tuple[Id, ...]:
        count = len(lanes) // factors
        products = lanes[:count]
        for number in range(1, factors):
            others = lanes[number * count : (number + 1) * count]
            products = tuple(self._multiply(a, b) for a, b in zip(products, others, strict=True))
        return products

    def _truncated(self, value: Value, spec: Any, lanes: tuple[Id, ...]) -> tuple[Id, ...]:
        zeroing = spec.zeroing_threshold > 0
        self.truncations.append(
            Truncation(
                float(spec.scale_factor),
                max(0.0, float(spec.clipping_threshold)),
                float(spec.zeroing_threshold),
                self.recurrence.buffer("boundaries", value) if zeroing else "",
            )
        )
        number = len(self.truncations) - 1
        self.recurrence.truncations.append(value)
        return tuple(
            self.builder.add(Truncated(self.builder.dim(lane), lane, number)) for lane in lanes
        )

    def _normalized(self, spec: Any, lanes: tuple[Id, ...]) -> Id:
        if len(lanes) != 1 or spec.block_dim != spec.dim or spec.add_log_stddev:
            raise NoRecurrence
        (lane,) = lanes
        square = self.builder.add(RowSum(lane, lane))
        factor = self.builder.add(Factor("renorm", (square,), (spec.dim * spec.target_rms**2,)))
        return self.builder.add(Scaled(spec.dim, lane, factor))

    def _lstm(
        self, value: Value, spec: Any, component: str, lanes: tuple[Id, ...]
    ) -> tuple[Id, ...]:
        """c and m of each piece of the cells."""
        cells = spec.cell_dim
        factors = lanes[-3:] if spec.use_dropout else ()
        rows = [self._row(lane) for lane in factors]
        blocks = _blocks(lanes[: len(lanes) - len(factors)], 5)
        outputs, results = [], []
        for number, (*gates, before) in enumerate(zip(*blocks, strict=True)):
            first, bent = self.pieces[value][number][0], dict[int, Id]()

            def weigh(lane: Id, peephole: int, at: int = first) -> Id:
                return self.vector(Weighted, lane, component, "weights", peephole * cells + at)

            def bend(
                name: FunctionName, lane: Id, unit: int, at: int = first, own: dict[int, Id] = bent
            ) -> Id:
                own[unit] = self._function(name, lane, value, unit, at)
                return own[unit]

            outputs.append(definitions.lstm(self.builder, gates, before, weigh, bend, rows))
            results.append([bent[unit] for unit in range(5)])
        self.recurrence.results[value] = list(zip(*results, strict=True))
        return (*(c for c, _ in outputs), *(m for _, m in outputs))

    def _row(self, lane: Id) -> Id:
        """A given column as one number of the row."""
        given = self.builder.operations[lane]
        if not isinstance(given, Given) or given.dim != 1:
            raise NoRecurrence
        return self.builder.add(RowGiven(given.buffer, given.column))

    def _gru(
        self, value: Value, spec: Any, component: str, lanes: tuple[Id, ...]
    ) -> tuple[Id, ...]:
        cells = len(self.pieces[value]) // 2
        projected = spec.is_projected
        states = (len(lanes) - 3 * cells) // 2 if projected else cells
        z, r, outer, before = _split(lanes, (cells, states, cells, cells))
        state = lanes[-states:] if projected else before
        gated = [self._multiply(a, b) for a, b in zip(r, state, strict=True)]
        inner = []
        for (first, dim), given in zip(self.pieces[value], outer, strict=False):
            terms, column = [(given, 1.0)], 0
            for lane in gated:
                columns = slice(column, column := column + self.builder.dim(lane))
                part = ParameterBlock(component, "w_h", slice(first, first + dim), columns)
                self.recurrence.matrices.append(part)
                number = len(self.recurrence.matrices) - 1
                terms.append((self.builder.add(Product(dim, lane, number)), 1.0))
            inner.append(self.builder.total(terms))
        self.recurrence.fed[value] = tuple(gated)
        return self._updated(value, z, tuple(inner), before)

    def _output_gru(self, value: Value, component: str, lanes: tuple[Id, ...]) -> tuple[Id, ...]:
        z, outer, before = _blocks(lanes, 3)
        inner = []
        for (first, _), given, lane in zip(self.pieces[value], outer, before, strict=False):
            fed = self.vector(Weighted, lane, component, "w_h", first)
            inner.append(self.builder.total([(given, 1.0), (fed, 1.0)]))
        self.recurrence.fed[value] = before
        return self._updated(value, z, tuple(inner), before)

    def _updated(
        self, value: Value, z: tuple[Id, ...], inner: tuple[Id, ...], before: tuple[Id, ...]
    ) -> tuple[Id, ...]:
        """h and c of each piece of the cells."""
        self.recurrence.inner[value] = inner
        states, results = [], []
        for (first, _), *lane in zip(self.pieces[value], z, inner, before, strict=False):

            def bend(name: FunctionName, lane: Id, unit: int, at: int = first) -> Id:
                return self._function(name, lane, value, unit, at)

            h, c = definitions.gru(self.builder, lane[0], lane[1], lane[2], bend)
            results.append(h)
            states.append(c)
        self.recurrence.results[value] = [tuple(results)]
        return (*results, *states)


def _blocks(lanes: tuple[Id, ...], count: int) -> list[tuple[Id, ...]]:
    """Lanes in `count` groups of the same size."""
    size = len(lanes) // count
    return [lanes[n * size : (n + 1) * size] for n in range(count)]


def _split(lanes: tuple[Id, ...], sizes: tuple[int, ...]) -> list[tuple[Id, ...]]:
    """Lanes in groups; what is left over is left out."""
    groups, first = [], 0
    for size in sizes:
        groups.append(lanes[first : first + size])
        first += size
    return groups
