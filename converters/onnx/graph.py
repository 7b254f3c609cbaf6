"""Collecting the nodes and constants of an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnet.converters.onnx.spans import Span
from nnet.errors import NnetError

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 8


def onnx_module() -> Any:
    """The package onnx."""
    try:
        import onnx
    except ImportError:
        raise NnetError("writing ONNX needs the package onnx: pip install 'nnet[onnx]'") from None
    return onnx


class Graph:
    """A graph, or the body of a loop inside of one; constants are all in the outermost."""

    def __init__(self, outer: Graph | None = None) -> None:
        self._helper = onnx_module().helper
        self._outer = outer
        self._root: Graph = self if outer is None else outer._root
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[Any, ...], str | tuple[str, ...]] = {}
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._number = 0

    def name(self, stem: str) -> str:
        """A name that is not taken."""
        self._root._number += 1
        return f"{stem}_{self._root._number}"

    def op(self, kind: str, *inputs: str, count: int = 1, **attributes: Any) -> Any:
        """Adds an operator; the name of its output, or the names of `count` outputs.

        An operator with the same inputs and attributes is not added twice.
        """
        key = (kind, inputs, count, tuple(sorted((k, str(v)) for k, v in attributes.items())))
        if kind != "Scan" and key in self._known:
            return self._known[key]
        outputs = [self.name(kind.lower()) for _ in range(count)]
        self.nodes.append(self._helper.make_node(kind, list(inputs), outputs, **attributes))
        self._known[key] = outputs[0] if count == 1 else tuple(outputs)
        return self._known[key]

    def constant(self, values: np.ndarray) -> str:
        """A constant; equal ones are stored once."""
        root = self._root
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in root._names:
            name = root.name("constant")
            root.constants[name] = onnx_module().numpy_helper.from_array(values, name)
            root._names[key] = name
        return root._names[key]

    def numbers(self, *values: float) -> str:
        """A vector of float32."""
        return self.constant(np.array(values, np.float32))

    def integers(self, *values: int) -> str:
        """A vector of int64."""
        return self.constant(np.array(values, np.int64))

    # Lengths, as vectors of one integer; all in the outermost graph.

    def count(self, span: Span) -> str:
        """Number of times in a span: (last + beyond - first) // step + 1, or 0."""
        ahead = self.op("Add", LAST, self.integers(span.beyond - span.first + span.step))
        if span.step > 1:
            ahead = self.op("Div", ahead, self.integers(span.step))
        return str(self.op("Max", ahead, self.integers(0)))

    def times(self, span: Span) -> str:
        """The times of a span, a vector of integers."""
        zero, one = (self.constant(np.array(n, np.int64)) for n in (0, 1))
        limit = self.op("Squeeze", self.count(span))
        steps = self.op("Range", zero, limit, one)
        scaled = self.op("Mul", steps, self.integers(span.step))
        return self.op("Add", scaled, self.integers(span.first))

    # Rows (batch, time, dim).

    def take(self, rows: str, stored: Span, wanted: Span) -> str:
        """The rows at the times `wanted` of rows stored at `stored`; zeros where it has none."""
        if wanted == stored:
            return rows
        one = self.integers(1)
        inside = wanted.within(stored)
        start = (inside.first - stored.first) // stored.step
        step = inside.step // stored.step
        length = self.op("Mul", self.op("Sub", self.count(inside), one), self.integers(step))
        end = self.op("Max", self.op("Add", length, self.integers(start + 1)), self.integers(0))
        rows = self.op("Slice", rows, self.integers(start), end, one, self.integers(step))
        if inside == wanted:
            return rows
        return self._padded(rows, inside, wanted)

    def _padded(self, rows: str, inside: Span, wanted: Span) -> str:
        """Rows at the times `inside` with zeros at the other times `wanted`."""
        front = (inside.first - wanted.first) // wanted.step
        missing = self.op("Sub", self.count(wanted), self.count(inside))
        back = self.op("Max", self.op("Sub", missing, self.integers(front)), self.integers(0))
        pads = self.op("Concat", self.integers(0, front, 0, 0), back, self.integers(0), axis=0)
        padded = self.op("Pad", rows, pads)
        if front == 0:
            return str(padded)
        end = self.count(wanted)  # fewer rows than zeros before them, if the utterance is short
        return str(self.op("Slice", padded, self.integers(0), end, self.integers(1)))

    def spread(self, rows: str, span: Span) -> str:
        """Rows of one time (batch or 1, 1, dim), repeated for all times of a span."""
        shape = self.op("Concat", self.integers(1), self.count(span), self.integers(1), axis=0)
        return self.op("Expand", rows, shape)

    def present(self, stored: Span | None, wanted: Span) -> str:
        """1 at those times `wanted` that are inside the ends of `stored`, else 0; (1, time, 1)."""
        one = self.constant(np.ones((1, 1, 1), np.float32))
        inside = wanted.within(stored)
        return self.take(self.spread(one, inside), inside, wanted)

    def columns(self, rows: str, first: int, dim: int) -> str:
        """Some columns of rows."""
        return self.op(
            "Slice",
            rows,
            self.integers(first),
            self.integers(first + dim),
            self.integers(-1),
            self.integers(1),
        )

    def split(self, rows: str, sizes: Sequence[int]) -> tuple[str, ...]:
        """Consecutive columns of rows."""
        if len(sizes) == 1:
            return (rows,)
        return self.op("Split", rows, self.integers(*sizes), count=len(sizes), axis=-1)

    def append(self, parts: Sequence[str]) -> str:
        """Columns side by side."""
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=-1)

    def affine(self, rows: str, linear: np.ndarray, bias: np.ndarray | None = None) -> str:
        """`linear x + bias`."""
        result = self.op("MatMul", rows, self.constant(np.ascontiguousarray(linear.T)))
        return result if bias is None else self.op("Add", result, self.constant(bias))


LAST = "last"
"""The name of the vector that holds the last output's time."""
