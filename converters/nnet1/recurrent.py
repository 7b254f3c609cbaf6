"""Recurrent components of nnet1; they start each utterance with zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from nnet.components.field import POSITIVE, FieldError, Kind, Old, Setting, stored
from nnet.converters.legacy import Rows, check_shape
from nnet.converters.nnet1.base import (
    DIMS,
    TYPES,
    Nnet1Component,
    array,
    bias_learn_rate_field,
    learn_rate_field,
    option,
    uniform,
)
from nnet.converters.reference import affine, sigmoid

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer


@dataclass(frozen=True)
class LstmParameters:
    """The parameters of one direction (Sak et al., 2014). The gates' order is g, i, f, o.

    Args:
        input: (4 * cell_dim, input_dim).
        recurrent: (4 * cell_dim, projection_dim).
        bias: (4 * cell_dim,).
        peephole_i, peephole_f, peephole_o: (cell_dim,).
        projection: (projection_dim, cell_dim).
    """

    input: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray
    peephole_i: np.ndarray
    peephole_f: np.ndarray
    peephole_o: np.ndarray
    projection: np.ndarray

    def forward(self, rows: Rows, cell_clip: float) -> Rows:
        """The projected outputs `(frames, projection_dim)`."""
        gates = affine(rows, self.input, self.bias)
        output = np.zeros(self.projection.shape[0])
        cell = np.zeros(self.projection.shape[1])
        results = []
        for t in range(len(rows)):
            g, i, f, o = np.split(gates[t] + self.recurrent.astype(float) @ output, 4)
            i = sigmoid(i + self.peephole_i * cell)
            f = sigmoid(f + self.peephole_f * cell)
            cell = np.tanh(g) * i + cell * f
            if cell_clip > 0:
                cell = np.clip(cell, -cell_clip, cell_clip)
            o = sigmoid(o + self.peephole_o * cell)
            output = self.projection.astype(float) @ (np.tanh(cell) * o)
            results.append(output)
        return np.array(results)


ARRAYS = tuple(LstmParameters.__dataclass_fields__)
"""The names of the arrays of one direction, in the order of files."""


@dataclass(kw_only=True, eq=False)
class AnyLstm(Nnet1Component):
    """What LSTMs of one and of two directions have in common."""

    settings: ClassVar[tuple[Setting, ...]] = (
        *DIMS,
        Setting("<ParamRange>", Kind.REAL, "largest absolute value of initial parameters", 0.1),
    )
    line_ends: ClassVar[tuple[str, ...]] = ("grad_clip",)

    cell_dim: int = stored(
        Kind.INTEGER, "<CellDim>", "number of cells", key="<CellDim>", check=POSITIVE
    )
    learn_rate: float = learn_rate_field()
    bias_learn_rate: float = bias_learn_rate_field()
    cell_clip: float = option("<CellClip>", Kind.REAL, "largest absolute value of a cell", 50.0)
    diff_clip: float = option("<DiffClip>", Kind.REAL, "limit of derivatives", 1.0)
    cell_diff_clip: float = option("<CellDiffClip>", Kind.REAL, "limit of cells' derivatives", 0.0)
    grad_clip: float = option("<GradClip>", Kind.REAL, "limit of gradients", 250.0)
    old_clip = Old("<ClipGradient>", Kind.REAL, sets=("grad_clip",))

    directions: ClassVar[tuple[str, ...]] = ("",)

    @classmethod
    def initial(cls, input_dim: int, output_dim: int, given: Given, init: Initializer) -> Self:
        cells, width = given.fields["cell_dim"], 2.0 * given["<ParamRange>"]
        projection = output_dim // len(cls.directions)
        arrays: dict[str, Any] = {}
        for direction in cls.directions:
            for name, shape in _shapes(cells, input_dim, projection).items():
                arrays[direction + name] = uniform(init, *shape, mean=0.0, width=width)
            if len(cls.directions) > 1:  # nnet1 opens the forget gates of these only
                arrays[direction + "bias"][2 * cells : 3 * cells] += 1.0
        return cls(input_dim=input_dim, output_dim=output_dim, **arrays, **given.fields)

    def parameters_of(self, direction: str) -> LstmParameters:
        return LstmParameters(*(getattr(self, direction + name) for name in ARRAYS))

    def check(self) -> None:
        super().check()
        if self.output_dim % len(self.directions) != 0:
            raise FieldError("<OutputDim>", f"<OutputDim> (={self.output_dim}) must be even")
        projection = self.output_dim // len(self.directions)
        for direction in self.directions:
            for name, shape in _shapes(self.cell_dim, self.input_dim, projection).items():
                check_shape(self, direction + name, *shape)


def _shapes(cells: int, inputs: int, projection: int) -> dict[str, tuple[int, ...]]:
    return {
        "input": (4 * cells, inputs),
        "recurrent": (4 * cells, projection),
        "bias": (4 * cells,),
        "peephole_i": (cells,),
        "peephole_f": (cells,),
        "peephole_o": (cells,),
        "projection": (projection, cells),
    }


def _matrix(doc: str) -> Any:
    return array(Kind.MATRIX, doc)


def _vector(doc: str) -> Any:
    return array(Kind.VECTOR, doc)


@TYPES.register("LstmProjected")
@dataclass(kw_only=True, eq=False)
class Lstm(AnyLstm):
    """A long short-term memory with peepholes and a projected output."""

    input: np.ndarray = _matrix("gates from the input")
    recurrent: np.ndarray = _matrix("gates from the last output")
    bias: np.ndarray = _vector("bias of the gates")
    peephole_i: np.ndarray = _vector("input gate from the last cell")
    peephole_f: np.ndarray = _vector("forget gate from the last cell")
    peephole_o: np.ndarray = _vector("output gate from the cell")
    projection: np.ndarray = _matrix("output from the cell's output")

    def forward(self, rows: Rows) -> Rows:
        return self.parameters_of("").forward(rows, self.cell_clip)


@TYPES.register("BlstmProjected")
@dataclass(kw_only=True, eq=False)
class Blstm(AnyLstm):
    """Two LSTMs, forward and backward in time, side by side."""

    line_ends: ClassVar[tuple[str, ...]] = ("grad_clip", "forward_projection")
    directions: ClassVar[tuple[str, ...]] = ("forward_", "backward_")

    forward_input: np.ndarray = _matrix("gates from the input, forward in time")
    forward_recurrent: np.ndarray = _matrix("gates from the last output")
    forward_bias: np.ndarray = _vector("bias of the gates")
    forward_peephole_i: np.ndarray = _vector("input gate from the last cell")
    forward_peephole_f: np.ndarray = _vector("forget gate from the last cell")
    forward_peephole_o: np.ndarray = _vector("output gate from the cell")
    forward_projection: np.ndarray = _matrix("output from the cell's output")
    backward_input: np.ndarray = _matrix("gates from the input, backward in time")
    backward_recurrent: np.ndarray = _matrix("gates from the next output")
    backward_bias: np.ndarray = _vector("bias of the gates")
    backward_peephole_i: np.ndarray = _vector("input gate from the next cell")
    backward_peephole_f: np.ndarray = _vector("forget gate from the next cell")
    backward_peephole_o: np.ndarray = _vector("output gate from the cell")
    backward_projection: np.ndarray = _matrix("output from the cell's output")

    def forward(self, rows: Rows) -> Rows:
        ahead = self.parameters_of("forward_").forward(rows, self.cell_clip)
        back = self.parameters_of("backward_").forward(rows[::-1], self.cell_clip)
        return np.concatenate((ahead, back[::-1]), axis=1)


@TYPES.register("RecurrentComponent")
@dataclass(kw_only=True, eq=False)
class Recurrent(Nnet1Component):
    """y(t) = tanh(linear x(t) + recurrent y(t - 1) + bias)."""

    settings: ClassVar[tuple[Setting, ...]] = (
        *DIMS,
        Setting("<ParamScale>", Kind.REAL, "largest absolute value of initial parameters", 0.02),
    )
    line_ends: ClassVar[tuple[str, ...]] = ("bias_learn_rate",)

    grad_clip: float = option("<GradClip>", Kind.REAL, "limit of gradients", 0.0)
    diff_clip: float = option("<DiffClip>", Kind.REAL, "limit of derivatives", 0.0)
    learn_rate: float = learn_rate_field()
    bias_learn_rate: float = bias_learn_rate_field()
    linear: np.ndarray = _matrix("matrix for the input (output_dim, input_dim)")
    recurrent: np.ndarray = _matrix("matrix for the last output (output_dim, output_dim)")
    bias: np.ndarray = _vector("bias (output_dim,)")

    @classmethod
    def initial(cls, input_dim: int, output_dim: int, given: Given, init: Initializer) -> Recurrent:
        width = 2.0 * given["<ParamScale>"]
        return cls(
            input_dim=input_dim,
            output_dim=output_dim,
            linear=uniform(init, output_dim, input_dim, mean=0.0, width=width),
            recurrent=uniform(init, output_dim, output_dim, mean=0.0, width=width),
            bias=uniform(init, output_dim, mean=0.0, width=width),
            **given.fields,
        )

    def check(self) -> None:
        super().check()
        check_shape(self, "linear", self.output_dim, self.input_dim)
        check_shape(self, "recurrent", self.output_dim, self.output_dim)
        check_shape(self, "bias", self.output_dim)

    def forward(self, rows: Rows) -> Rows:
        output = np.zeros(self.output_dim)
        results = []
        for row in affine(rows, self.linear, self.bias):
            output = np.tanh(row + self.recurrent.astype(float) @ output)
            results.append(output)
        return np.array(results)
