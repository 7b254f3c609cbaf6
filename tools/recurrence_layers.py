"""The usual recurrent layers as recurrences, to compile kernels for and to test and measure them.

Networks do not need these: their loops are turned into recurrences by structure.
"""

from __future__ import annotations

from dataclasses import dataclass

from nnet.kernels.cells import definitions
from nnet.kernels.recurrence.gradient import Both, differentiate
from nnet.kernels.recurrence.program import (
    BufferColumns,
    Builder,
    Factor,
    Function,
    FunctionName,
    Given,
    Id,
    Multiply,
    Offset,
    Product,
    Recurrence,
    RowGiven,
    RowSum,
    Scaled,
    Truncated,
    Truncation,
    Weighted,
)

TRUNCATION = Truncation(threshold=30.0, zeroing=15.0, boundaries="boundaries")


@dataclass(frozen=True)
class Layer:
    """A layer.

    Attributes:
        source: its recurrence; gates from outside the loop are the buffer `x`.
        outputs: what it gives out, in the buffer `y`.
    """

    source: Recurrence
    outputs: tuple[Id, ...]

    def both(self, repaired: frozenset[int] = frozenset()) -> Both:
        """Its two programs, with gradients for all columns of `x` in `of x`."""
        stores, given = {}, {}
        column = 0
        for value in self.outputs:
            stores[value] = [BufferColumns("y", column)]
            given[value] = BufferColumns("of y", column)
            column += self.source.dim(value)
        wanted = {
            value: [BufferColumns("of x", operation.column)]
            for value, operation in enumerate(self.source.operations)
            if isinstance(operation, Given) and operation.buffer == "x"
        }
        return differentiate(self.source, stores, given, wanted, (), repaired)


class _Layer(Builder):
    """A layer that is being built; its matrices and vectors are numbered as they come."""

    def __init__(self, truncation: Truncation) -> None:
        super().__init__()
        self.truncation = truncation
        self.matrices = self.vectors = self.columns = 0

    def given(self, dim: int) -> Id:
        self.columns += dim
        return self.add(Given(dim, "x", self.columns - dim, scratch=True))

    def product(self, dim: int, of: Id) -> Id:
        self.matrices += 1
        return self.add(Product(dim, of, self.matrices - 1))

    def weighted(self, of: Id) -> Id:
        self.vectors += 1
        return self.add(Weighted(self.dim(of), of, self.vectors - 1))

    def seen(self, dim: int, state: Id) -> Id:
        """Columns of x plus a product of the state."""
        return self.total([(self.product(dim, state), 1.0), (self.given(dim), 1.0)])

    def function(self, name: FunctionName, of: Id, repair: int = -1) -> Id:
        return self.add(Function(self.dim(of), of, name, repair))

    def weigh(self, of: Id, number: int) -> Id:
        """For definitions of cells, whose vectors come one after the other."""
        return self.weighted(of)

    def bend(self, name: FunctionName, of: Id, number: int) -> Id:
        """For definitions of cells."""
        return self.function(name, of, number + VECTORS)

    def multiply(self, first: Id, second: Id) -> Id:
        return self.add(Multiply(self.dim(first), first, second))

    def projections(self, of: Id, dims: tuple[int, ...]) -> list[Id]:
        """Parts of one affine transform."""
        found = []
        for dim in dims:
            self.vectors += 1
            found.append(self.add(Offset(dim, self.product(dim, of), self.vectors - 1)))
        return found

    def remember(self, earlier: Id, value: Id, truncation: int = 0) -> None:
        """Settles what was read before it was made; derivatives are truncated on the way."""
        self.connect(earlier, self.add(Truncated(self.dim(value), value, truncation)))

    def normalized(self, value: Id) -> Id:
        """Renorm to a root-mean-square of 1."""
        square = self.add(RowSum(value, value))
        factor = self.add(Factor("renorm", (square,), (float(self.dim(value)),)))
        return self.add(Scaled(self.dim(value), value, factor))

    def finish(self, *outputs: Id, truncations: int = 1) -> Layer:
        many = (self.truncation,) * truncations
        return Layer(Recurrence(tuple(self.operations), (), many), outputs)


def lstm(
    cells: int,
    recurrent: int,
    other: int = 0,
    *,
    dropout: bool = False,
    truncation: Truncation = TRUNCATION,
) -> Layer:
    """An LSTM with peepholes (nnet3's LstmNonlinearityComponent), projected to `recurrent` +
    `other` columns, or with `recurrent` = `cells` not projected; gates are i, f, g, o.

    With dropout, the last three columns of x are factors of the gates i, f and o."""
    layer = _Layer(truncation)
    c_before, r_before = layer.later(cells), layer.later(recurrent)
    gates = [layer.seen(cells, r_before) for _ in range(4)]
    masks = [layer.add(RowGiven("masks", number)) for number in range(3)] if dropout else []
    c, m = definitions.lstm(layer, gates, c_before, layer.weigh, layer.bend, masks)
    outputs = layer.projections(m, (recurrent, other)) if other else [m]
    layer.remember(c_before, c)
    layer.remember(r_before, outputs[0])
    return layer.finish(*outputs)


VECTORS = 16
"""More than a layer has; vectors of self-repair come after them."""


def gru(
    cells: int,
    recurrent: int,
    other: int = 0,
    *,
    normalized: bool = False,
    truncation: Truncation = TRUNCATION,
) -> Layer:
    """A gated recurrent unit with a reset gate (nnet3's GruNonlinearityComponent)."""
    layer = _Layer(truncation)
    s_before = layer.later(recurrent)
    c_before = layer.later(cells) if other else s_before
    z = layer.function("sigmoid", layer.seen(cells, s_before))
    r = layer.function("sigmoid", layer.seen(recurrent, s_before))
    inner = layer.seen(cells, layer.multiply(r, s_before))
    _, c = definitions.gru(layer, z, inner, c_before, layer.bend)
    outputs = layer.projections(c, (recurrent, other)) if other else [c]
    if other:
        layer.connect(c_before, c)
    layer.remember(s_before, layer.normalized(outputs[0]) if normalized else outputs[0])
    return layer.finish(*outputs)


def output_gru(
    cells: int, recurrent: int, other: int, *, truncation: Truncation = TRUNCATION
) -> Layer:
    """A gated recurrent unit with an output gate (nnet3's OutputGruNonlinearityComponent)."""
    layer = _Layer(truncation)
    s_before, c_before = layer.later(recurrent), layer.later(cells)
    z = layer.function("sigmoid", layer.seen(cells, s_before))
    o = layer.function("sigmoid", layer.seen(cells, s_before))
    u = layer.total([(layer.given(cells), 1.0), (layer.weighted(c_before), 1.0)])
    _, c = definitions.gru(layer, z, u, c_before, layer.bend)
    outputs = layer.projections(layer.multiply(c, o), (recurrent, other))
    layer.connect(c_before, c)
    layer.remember(s_before, outputs[0])
    return layer.finish(*outputs)


def composed_lstm(
    cells: int, recurrent: int, other: int = 0, *, truncation: Truncation = TRUNCATION
) -> Layer:
    """An LSTM of single components: cells are truncated before anything reads them."""
    layer = _Layer(truncation)
    c_before, r_before = layer.later(cells), layer.later(recurrent)
    i, f, g, o = (layer.seen(cells, r_before) for _ in range(4))
    i = layer.function("sigmoid", layer.total([(i, 1.0), (layer.weighted(c_before), 1.0)]))
    f = layer.function("sigmoid", layer.total([(f, 1.0), (layer.weighted(c_before), 1.0)]))
    made = [(layer.multiply(f, c_before), 1.0), (layer.multiply(i, layer.function("tanh", g)), 1.0)]
    c = layer.add(Truncated(cells, layer.total(made), 1))
    o = layer.function("sigmoid", layer.total([(o, 1.0), (layer.weighted(c), 1.0)]))
    m = layer.multiply(o, layer.function("tanh", c))
    outputs = layer.projections(m, (recurrent, other)) if other else [m]
    layer.connect(c_before, c)
    layer.remember(r_before, outputs[0])
    return layer.finish(*outputs, truncations=2)
