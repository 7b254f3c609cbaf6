"""The cells of `nnet.kernels.cells` as C++: `python -m tools.render_cells` writes cells.cpp.

A test holds that file against what is made here. A program is a function over rows; numbers of
columns are given when it is called, so that one text serves cells of all sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nnet.kernels
from nnet.kernels.cells import cell as cells
from nnet.kernels.cells.cell import Cell, Program, gradient_of
from nnet.kernels.cells.cpu import buffers_of, function_name
from nnet.kernels.cells.parts import parts_between_products, width_of
from nnet.kernels.functions import FUNCTIONS
from nnet.kernels.recurrence.program import (
    BufferColumns,
    Function,
    Given,
    Id,
    Multiply,
    Offset,
    Operation,
    Push,
    Recurrence,
    RowGiven,
    Scaled,
    Slope,
    Total,
    Weighted,
)

FILE = Path(nnet.kernels.__file__).parent / "cells" / "cells.cpp"

HEAD = """\
// Made by `python -m tools.render_cells` from cell.py and definitions.py; see cpu.py.

#include "native_rows.h"

namespace {

// Rows of a buffer, and whether results are added to what is there.
struct CellBuffer {
    RowAddresses rows;
    int64_t adds;
};

// Numbers that are the same for all rows, (dim).
struct CellVector {
    const float* data;
};

// What a program runs on.
struct Cell {
    int64_t threads, batch;
    int64_t dim;                  // columns
    int64_t adds;                 // whether results are added to what is in any buffer
    const CellBuffer* buffers;
    const CellVector* vectors;
    double* sums;                 // (sums, dim), added to
    float* scratch;               // (threads, sums, dim)
};

"""

RUN = """\

using Row = void (*)(const Cell*, int64_t, int64_t, float*);

// Calls `row` for rows `first` up to `end`, and adds up its sums over columns.
void run(const Cell* cell, int64_t first, int64_t end, int64_t sums, Row row) {
    const int64_t batch = cell->batch, size = sums * cell->dim;
    float* const scratch = cell->scratch;
    if (sums) std::memset(scratch, 0, cell->threads * size * sizeof(float));
    const auto work = [=](int64_t i, int64_t last, int64_t thread) {
        for (; i < last; ++i) row(cell, first + i / batch, i % batch, scratch + thread * size);
    };
    in_parts((end - first) * batch, cell->dim, cell->threads, work);
    if (!sums) return;
    for (int64_t thread = 0; thread < cell->threads; ++thread)
        for (int64_t k = 0; k < size; ++k) cell->sums[k] += scratch[thread * size + k];
}
"""

LAYOUTS = """\
}  // namespace

NNET_LAYOUT(CellBuffer, rows, adds)
NNET_LAYOUT(CellVector, data)
NNET_LAYOUT(Cell, threads, batch, dim, adds, buffers, vectors, sums, scratch)

extern "C" {
"""

NAMES = {"sigmoid": "sigmoid", "tanh": "hyperbolic_tangent"}
"""In native_rows.h."""


def programs() -> Iterator[Program]:
    """All programs that there are in C++; what is one column stands for any number."""
    kinds: tuple[Cell, ...] = (
        cells.lstm_cell(1),
        cells.lstm_cell(1, dropout=True),
        cells.output_gru_cell(1),
        cells.gru_cell(1, 1),
    )
    for cell in kinds:
        yield from dict.fromkeys(cell.forward(keeps=keeps) for keeps in (False, True))
        yield from dict.fromkeys(
            cell.backward(kept=kept, repaired=repaired)
            for kept in (False, True)
            for repaired in (False, True)
        )


def _of_outputs() -> str:
    """Slopes of nonlinearities and pushes of self-repair, as functions of the output."""
    texts = []
    for name in NAMES:
        function = FUNCTIONS[name]
        for kind, expression in (("slope", function.slope_text), ("push", function.push_text)):
            texts.append(f"inline float {name}_{kind}(float y) {{ return {expression}; }}\n")
    return "".join(texts)


def render() -> str:
    """The text of cells.cpp: a function in C++ for each part of each program."""
    rows, functions = [], []
    for program in programs():
        for number, part in enumerate(parts_between_products(program.recurrence)):
            name = function_name(program, number)
            rows.append(_Row(name, part.program).text())
            functions.append(_function(name, part.program))
    return "\n".join(
        [
            HEAD + _of_outputs() + RUN,
            *rows,
            LAYOUTS,
            *functions,
            '}  // extern "C"\n',
        ]
    )


def _function(name: str, program: Recurrence) -> str:
    choice = f"{name}_row"
    if _added(program):
        choice = f"cell->adds ? {name}_row<true> : {name}_row<false>"
    return (
        f"void {name}(const Cell* cell, int64_t first, int64_t end) {{\n"
        f"    run(cell, first, end, {len(program.sums)}, {choice});\n}}\n"
    )


def _added(program: Recurrence) -> bool:
    """Whether results may be added to what is in a buffer: gradients."""
    return any(buffer.startswith(gradient_of("")) for buffer in program.written)


class _Row:
    """The function that makes one row.

    All that is read of a row's column is read before anything is written, since buffers may be the
    same memory.
    """

    def __init__(self, name: str, program: Recurrence) -> None:
        assert width_of(program) == 1
        self.name, self.program = name, program
        self.buffers = buffers_of(program)
        self.vectors = list(program.vectors)
        self.wanted = {value for value, _ in program.stores}
        self.wanted |= {value for total in program.sums for value in total.operands}
        self.uses = [o for operation in program.operations for o in operation.operands]
        self.lines: list[str] = []
        self.known: dict[Id, str] = {}

    def text(self) -> str:
        """The text of the function in C++."""
        self._head()
        self.lines += ["#pragma GCC ivdep", "    for (int64_t k = 0; k < dim; ++k) {"]
        for value in sorted(self.wanted):
            self._value(value)
        for number, total in enumerate(self.program.sums):
            product = " * ".join(self.known[value] for value in total.operands)
            self._add(f"sum[{_column(number)}] += {product};")
        for value, place in self.program.stores:
            self._store(self.known[value], place)
        return "\n".join([*self.lines, "    }", "}", ""])

    def _head(self) -> None:
        adds = _added(self.program)
        sum_name = "float* sum" if self.program.sums else "float*"
        self.lines += ["template <bool adds>"] if adds else []
        arguments = f"const Cell* cell, int64_t t, int64_t b, {sum_name}"
        self.lines += [f"void {self.name}_row({arguments}) {{"]
        self.lines += ["    const int64_t dim = cell->dim;"]
        for number, buffer in enumerate(self.buffers):
            const = "" if buffer in self.program.written else "const "
            name, place = _name(buffer), f"cell->buffers[{number}]"
            self.lines.append(f"    {const}float* {name} = {place}.rows.at(t, b);")
            if self._may_add(buffer):
                self.lines.append(f"    const bool adds_{name} = adds && {place}.adds;")
        for number in range(len(self.vectors)):
            self.lines.append(f"    const float* w{number} = cell->vectors[{number}].data;")
        for value, operation in enumerate(self.program.operations):
            if isinstance(operation, RowGiven):
                self.known[value] = f"{_name(operation.buffer)}_{operation.column}"
                read = f"{_name(operation.buffer)}[{operation.column}]"
                self.lines.append(f"    const float {self.known[value]} = {read};")

    def _may_add(self, buffer: str) -> bool:
        return buffer in self.program.written and buffer.startswith(gradient_of(""))

    def _add(self, line: str) -> None:
        self.lines.append(f"        {line}")

    def _store(self, name: str, place: BufferColumns) -> None:
        where = f"{_name(place.buffer)}[{_column(place.column)}]"
        if self._may_add(place.buffer):
            name = f"(adds_{_name(place.buffer)} ? {where} : 0.0f) + {name}"
        self._add(f"{where} = {name};")

    def _value(self, value: Id) -> str:
        """A name for a value; what is used once is written where it is used."""
        if value not in self.known:
            operation = self.program.operations[value]
            expression = self._expression(operation)
            if value not in self.wanted and self.uses.count(value) == 1:
                return f"({expression})" if isinstance(operation, Total | Offset) else expression
            name = f"v{value}"
            if isinstance(operation, Given):
                name = f"{_name(operation.buffer)}_{operation.column}"
            self.known[value] = name
            self._add(f"float {name} = {expression};")
        return self.known[value]

    def _expression(self, operation: Operation) -> str:
        match operation:
            case Given(buffer=buffer, column=column, shift=0):
                return f"{_name(buffer)}[{_column(column)}]"
            case Total(terms=terms, constant=constant):
                return self._total(terms, constant)
            case Multiply(of=of, second=second) | Scaled(of=of, row=second):
                return f"{self._value(of)} * {self._value(second)}"
            case Weighted(of=of, vector=vector):
                return f"{self._value(of)} * {self._vector(vector)}"
            case Offset(of=of, vector=vector):
                return f"{self._value(of)} + {self._vector(vector)}"
            case Function(of=of, name=name):
                return f"{NAMES[name]}({self._argument(of)})"
            case Slope(of=of, name=name):
                return f"{name}_slope({self._argument(of)})"
            case Push(of=of, name=name, vector=vector):
                return f"{name}_push({self._argument(of)}) * {self._vector(vector)}"
        raise TypeError(f"no text for {type(operation).__name__}")

    def _argument(self, value: Id) -> str:
        """The same between a function's parentheses."""
        text = self._value(value)
        inside = value not in self.known and isinstance(
            self.program.operations[value], Total | Offset
        )
        return text[1:-1] if inside else text

    def _vector(self, number: int) -> str:
        return f"w{self.vectors.index(number)}[k]"

    def _total(self, terms: tuple[tuple[Id, float], ...], constant: float) -> str:
        text = f"{constant!r}f" if constant else ""
        for term, scale in terms:
            name = self._value(term)
            part = name if abs(scale) == 1 else f"{abs(scale)!r}f * {name}"
            sign = " - " if scale < 0 else " + "
            text = text + sign + part if text else ("-" if scale < 0 else "") + part
        return text


def _name(buffer: str) -> str:
    return buffer.replace(" ", "_")


def _column(number: int) -> str:
    return {0: "k", 1: "dim + k"}.get(number, f"{number} * dim + k")


def main() -> None:
    """Writes cells.cpp."""
    FILE.write_text(render())


if __name__ == "__main__":
    main()
