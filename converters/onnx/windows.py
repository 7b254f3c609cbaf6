"""Components that look at several frames, as ONNX operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnet.converters.onnx.components import ROWWISE, flat
from nnet.converters.onnx.graph import Graph
from nnet.converters.onnx.spans import Span

DOUBLE, FLOAT = 11, 1
"""ONNX's numbers of float64 and float32."""

Emit = Callable[[Any, Sequence[str], Graph], str]
"""From a specification and the rows at each offset of its window to the output."""

WINDOWED: dict[str, Emit] = {}


def exports(type_name: str) -> Callable[[Emit], Emit]:
    """Registers the operators of a component type."""

    def register(emit: Emit) -> Emit:
        WINDOWED[type_name] = emit
        ROWWISE[type_name] = lambda spec, rows, g: emit(spec, [rows], g)  # inside of composites
        return emit

    return register


@exports("TdnnComponent")
def _tdnn(spec: Any, taken: Sequence[str], g: Graph) -> str:
    return g.affine(g.append(taken), spec.linear, spec.bias)


@exports("TimeHeightConvolutionComponent")
def _time_height(spec: Any, taken: Sequence[str], g: Graph) -> str:
    """As a product with the pixels of each patch; those outside the image are zero."""
    pixels = np.arange(spec.height_in * spec.num_filters_in).reshape(spec.height_in, -1)
    zero = len(taken) * spec.input_dim  # the column behind all frames
    patches = np.full((spec.height_out, len(spec.offsets), spec.num_filters_in), zero)
    places = {time: number for number, time in enumerate(spec.window.offsets)}
    for h in range(spec.height_out):
        for number, (time, height) in enumerate(spec.offsets):
            source = h * spec.height_subsample_out + height
            if 0 <= source < spec.height_in:
                patches[h, number] = places[time] * spec.input_dim + pixels[source]
    rows = g.append(taken)
    if (patches == zero).any():
        rows = g.op("Pad", rows, g.integers(0, 0, 0, 0, 0, 1))
    columns = g.op("Gather", rows, g.integers(*patches.ravel().tolist()), axis=2)
    shape = g.integers(0, 0, spec.height_out, spec.linear.shape[1])
    made = g.affine(g.op("Reshape", columns, shape), spec.linear, spec.bias)
    return flat(made, spec.output_dim, g)


@exports("RestrictedAttentionComponent")
def _attention(spec: Any, taken: Sequence[str], g: Graph) -> str:
    sizes = [spec.key_dim, spec.value_dim, spec.key_dim, spec.context_dim]
    heads = [
        g.split(g.op("Reshape", rows, g.integers(0, 0, spec.num_heads, sum(sizes))), sizes)
        for rows in taken
    ]
    _, _, query, position = heads[spec.num_left_inputs]
    query = g.op("Mul", query, g.numbers(spec.key_scale))
    products = [
        g.op("ReduceSum", g.op("Mul", query, key), g.integers(3), keepdims=1)
        for key, _, _, _ in heads
    ]
    weights = g.op("Softmax", g.op("Add", g.append(products), position), axis=-1)
    shares = g.split(weights, [1] * spec.context_dim)
    result = ""
    for share, (_, value, _, _) in zip(shares, heads, strict=True):
        term = g.op("Mul", share, value)
        result = g.op("Add", result, term) if result else term
    if spec.output_context:
        result = g.append([result, weights])
    return flat(result, spec.output_dim, g)


def extract(spec: Any, taken: Sequence[str], present: Sequence[str], g: Graph) -> str:
    """Count, sum and sum of squares of the frames of each period.

    Args:
        taken: the rows at each place of the period, zeros where there are none.
        present: whether they are there, (1, time, 1).
    """
    sums, squares, count = "", "", ""
    for rows, there in zip(taken, present, strict=True):
        square = g.op("Mul", rows, rows)
        sums = g.op("Add", sums, rows) if sums else rows
        squares = g.op("Add", squares, square) if squares else square
        count = g.op("Add", count, there) if count else there
    zero = g.op("Mul", g.columns(sums, 0, 1), g.numbers(0.0))
    counts = g.op("Add", count, zero)  # as many sequences as there are
    return g.append([counts, sums, squares] if spec.include_variance else [counts, sums])


def pool(spec: Any, rows: str, stored: Span, span: Span, g: Graph) -> str:
    """Means and deviations over the window around each time of a span.

    Sums over windows are differences of running sums in float64.

    Args:
        rows: statistics at the times `stored`, all that there are.
    """
    totals = g.op("CumSum", g.op("Cast", rows, to=DOUBLE), g.constant(np.array(1, np.int64)))
    totals = g.op("Pad", totals, g.integers(0, 1, 0, 0, 0, 0))
    times, count = g.times(span), g.count(stored)
    period = stored.step
    ahead = g.op("Sub", times, g.integers(stored.first + spec.left_context - (period - 1)))
    first = g.op("Max", _floor_divided(ahead, period, g), g.integers(0))
    reach = g.op("Add", times, g.integers(spec.right_context - stored.first + period))
    end = g.op("Min", _floor_divided(reach, period, g), count)
    sums = g.op("Sub", *(g.op("Gather", totals, index, axis=1) for index in (end, first)))
    counts, others = g.split(sums, [1, spec.input_dim - 1])
    means = g.op("Cast", g.op("Div", others, counts), to=FLOAT)
    if spec.output_stddevs:
        mean, square = g.split(means, [spec.feature_dim] * 2)
        variance = g.op("Sub", square, g.op("Mul", mean, mean))
        floored = g.op("Max", variance, g.numbers(spec.variance_floor))
        means = g.append([mean, g.op("Sqrt", floored)])
    if not spec.num_log_count_features:
        return means
    logs = g.op("Cast", g.op("Log", counts), to=FLOAT)
    return g.append([logs] * spec.num_log_count_features + [means])


def _floor_divided(numbers: str, divisor: int, g: Graph) -> str:
    """Numbers // divisor; negative quotients may be rounded up to 0."""
    return numbers if divisor == 1 else g.op("Div", numbers, g.integers(divisor))
