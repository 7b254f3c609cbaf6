"""Components that work row by row, as ONNX operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnet.components.nonlinearity import Elementwise
from nnet.converters.onnx.graph import Graph
from nnet.errors import NnetError
from nnet.kernels.functions import FUNCTIONS

Emit = Callable[[Any, str, Graph], str]
"""From a specification and its input (batch, time, input_dim) to (batch, time, output_dim)."""

ROWWISE: dict[str, Emit] = {}

SQUARED_NORM_FLOOR = 2.0**-66
SMALLEST_PROBABILITY = 1e-20
LOWEST = -1e20


def exports(*type_names: str) -> Callable[[Emit], Emit]:
    """Registers the operators of component types."""

    def register(emit: Emit) -> Emit:
        ROWWISE.update(dict.fromkeys(type_names, emit))
        return emit

    return register


def rowwise(spec: Any, rows: str, g: Graph) -> str:
    """A component's output on rows.

    Raises:
        NnetError: the component type cannot be expressed.
    """
    if isinstance(spec, Elementwise):
        return FUNCTIONS[spec.function].onnx(g.op, rows)
    if spec.type_name not in ROWWISE:
        raise NnetError(f"components of type {spec.type_name} cannot be written to ONNX")
    return ROWWISE[spec.type_name](spec, rows, g)


def constant_row(spec: Any) -> np.ndarray | None:
    """The row that a component without an input makes at all times, None for other components."""
    if spec.type_name == "ConstantComponent":
        return np.asarray(spec.output, np.float32)
    if spec.type_name == "DropoutMaskComponent":
        mean = 1.0 if spec.continuous else 1.0 - spec.dropout_proportion
        return np.full(spec.output_dim, mean, np.float32)
    return None


@exports("AffineComponent", "NaturalGradientAffineComponent", "FixedAffineComponent")
def _affine(spec: Any, rows: str, g: Graph) -> str:
    return g.affine(rows, spec.linear, spec.bias)


@exports("LinearComponent")
def _linear(spec: Any, rows: str, g: Graph) -> str:
    return g.affine(rows, spec.linear)


@exports(
    "NoOpComponent",
    "GeneralDropoutComponent",
    "SpecAugmentTimeMaskComponent",
    "ClipGradientComponent",
)
def _identity(spec: Any, rows: str, g: Graph) -> str:
    return rows


@exports("DropoutComponent")
def _dropout(spec: Any, rows: str, g: Graph) -> str:
    return _scaled(rows, 1.0 - spec.dropout_proportion, g)


@exports("BackpropTruncationComponent")
def _backprop_truncation(spec: Any, rows: str, g: Graph) -> str:
    return _scaled(rows, spec.scale_factor, g)


def _scaled(rows: str, factor: float, g: Graph) -> str:
    return rows if factor == 1.0 else g.op("Mul", rows, g.numbers(factor))


@exports("CompositeComponent")
def _composite(spec: Any, rows: str, g: Graph) -> str:
    for component in spec.components:
        rows = rowwise(component, rows, g)
    return rows


@exports("ConstantFunctionComponent")
def _constant_function(spec: Any, rows: str, g: Graph) -> str:
    shape = g.op("Concat", g.op("Shape", rows, end=2), g.integers(spec.output_dim), axis=0)
    return g.op("Expand", g.constant(spec.output), shape)


@exports("SoftmaxComponent")
def _softmax(spec: Any, rows: str, g: Graph) -> str:
    return g.op("Max", g.op("Softmax", rows, axis=-1), g.numbers(SMALLEST_PROBABILITY))


@exports("LogSoftmaxComponent")
def _log_softmax(spec: Any, rows: str, g: Graph) -> str:
    return g.op("LogSoftmax", rows, axis=-1)


@exports("PowerComponent")
def _power(spec: Any, rows: str, g: Graph) -> str:
    return g.op("Pow", g.op("Abs", rows), g.numbers(spec.power))


@exports("LogComponent")
def _log(spec: Any, rows: str, g: Graph) -> str:
    return g.op("Log", g.op("Max", rows, g.numbers(spec.floor)))


@exports("PerElementScaleComponent", "NaturalGradientPerElementScaleComponent")
def _scale(spec: Any, rows: str, g: Graph) -> str:
    return g.op("Mul", rows, g.constant(spec.scales))


@exports("FixedScaleComponent")
def _fixed_scale(spec: Any, rows: str, g: Graph) -> str:
    return g.op("Mul", rows, g.constant(spec.scales))


@exports("FixedBiasComponent")
def _fixed_bias(spec: Any, rows: str, g: Graph) -> str:
    return g.op("Add", rows, g.constant(spec.bias))


def _tiled(values: np.ndarray, dim: int) -> np.ndarray:
    """Numbers of one block of columns for all blocks."""
    return np.tile(values, dim // values.size).astype(np.float32)


@exports("PerElementOffsetComponent")
def _offset(spec: Any, rows: str, g: Graph) -> str:
    return g.op("Add", rows, g.constant(_tiled(spec.offsets, spec.dim)))


@exports("ScaleAndOffsetComponent")
def _scale_and_offset(spec: Any, rows: str, g: Graph) -> str:
    scaled = g.op("Mul", rows, g.constant(_tiled(spec.scales, spec.dim)))
    return g.op("Add", scaled, g.constant(_tiled(spec.offsets, spec.dim)))


@exports("BatchNormComponent")
def _batch_norm(spec: Any, rows: str, g: Graph) -> str:
    if spec.count == 0:
        raise NnetError("a BatchNormComponent has no statistics; train the network first")
    scales = spec.target_rms / np.sqrt(spec.stats_var.astype(np.float64) + spec.epsilon)
    offsets = -spec.stats_mean * scales
    scaled = g.op("Mul", rows, g.constant(_tiled(scales, spec.dim)))
    return g.op("Add", scaled, g.constant(_tiled(offsets, spec.dim)))


def in_blocks(rows: str, blocks: int, dim: int, g: Graph) -> str:
    """Columns as (batch, time, blocks, dim)."""
    return g.op("Reshape", rows, g.integers(0, 0, blocks, dim))


def flat(rows: str, dim: int, g: Graph) -> str:
    """Blocks of columns side by side again."""
    return g.op("Reshape", rows, g.integers(0, 0, dim))


@exports("NormalizeComponent")
def _normalize(spec: Any, rows: str, g: Graph) -> str:
    blocks = spec.dim // spec.block_dim
    parts = in_blocks(rows, blocks, spec.block_dim, g) if blocks > 1 else rows
    mean_square = g.op("ReduceMean", g.op("Mul", parts, parts), axes=[-1], keepdims=1)
    rms = g.op("Sqrt", g.op("Max", mean_square, g.numbers(SQUARED_NORM_FLOOR)))
    factor = g.op("Div", g.numbers(spec.target_rms), rms)
    result = g.op("Mul", parts, factor)
    if spec.add_log_stddev:
        result = g.append([result, g.op("Log", rms)])
    return flat(result, spec.output_dim, g) if blocks > 1 else result


@exports("PnormComponent")
def _pnorm(spec: Any, rows: str, g: Graph) -> str:
    groups = in_blocks(rows, spec.output_dim, spec.input_dim // spec.output_dim, g)
    return g.op("ReduceL2", groups, axes=[-1], keepdims=0)


@exports("SumGroupComponent")
def _sum_group(spec: Any, rows: str, g: Graph) -> str:
    group = np.repeat(np.arange(len(spec.sizes)), spec.sizes)
    return g.affine(rows, np.equal.outer(np.arange(len(spec.sizes)), group).astype(np.float32))


@exports("SumBlockComponent")
def _sum_block(spec: Any, rows: str, g: Graph) -> str:
    blocks = in_blocks(rows, spec.input_dim // spec.output_dim, spec.output_dim, g)
    total = g.op("ReduceSum", blocks, g.integers(2), keepdims=0)
    return g.op("Mul", total, g.numbers(spec.factor))


@exports("ElementwiseProductComponent")
def _product(spec: Any, rows: str, g: Graph) -> str:
    count = spec.input_dim // spec.output_dim
    result, *rest = g.split(rows, [spec.output_dim] * count)
    for part in rest:
        result = g.op("Mul", result, part)
    return result


@exports("PermuteComponent")
def _permute(spec: Any, rows: str, g: Graph) -> str:
    return g.op("Gather", rows, g.integers(*spec.column_map), axis=2)


@exports("BlockAffineComponent")
def _block_affine(spec: Any, rows: str, g: Graph) -> str:
    linear = spec.linear.reshape(spec.num_blocks, -1, spec.linear.shape[1])
    parts = in_blocks(rows, spec.num_blocks, linear.shape[2], g)
    transposed = np.ascontiguousarray(linear.swapaxes(1, 2))
    columns = g.op("Unsqueeze", parts, g.integers(3))  # (batch, time, blocks, 1, columns)
    made = g.op("MatMul", columns, g.constant(transposed))
    return g.op("Add", flat(made, spec.output_dim, g), g.constant(spec.bias))


@exports("RepeatedAffineComponent", "NaturalGradientRepeatedAffineComponent")
def _repeated_affine(spec: Any, rows: str, g: Graph) -> str:
    parts = in_blocks(rows, spec.num_repeats, spec.linear.shape[1], g)
    return flat(g.affine(parts, spec.linear, spec.bias), spec.output_dim, g)


@exports("ConvolutionComponent")
def _convolution(spec: Any, rows: str, g: Graph) -> str:
    """As a product with the columns of each patch."""
    shape = spec.input_x_dim, spec.input_y_dim, spec.input_z_dim
    order = (0, 1, 2) if spec.is_zyx else (0, 2, 1)
    stored = np.arange(spec.input_dim).reshape([shape[axis] for axis in order])
    columns = stored.transpose(order)
    x_steps, y_steps = (np.arange(n) for n in spec.patches)
    x = (spec.filt_x_step * x_steps)[:, None] + np.arange(spec.filt_x_dim)
    y = (spec.filt_y_step * y_steps)[:, None] + np.arange(spec.filt_y_dim)
    patches = columns[x[:, None, :, None], y[None, :, None, :]]  # (px, py, fx, fy, z)
    taken = g.op("Gather", rows, g.integers(*patches.ravel().tolist()), axis=2)
    count = patches.shape[0] * patches.shape[1]
    made = g.affine(in_blocks(taken, count, spec.filters.shape[1], g), spec.filters, spec.bias)
    return flat(made, spec.output_dim, g)


@exports("MaxpoolingComponent")
def _maxpooling(spec: Any, rows: str, g: Graph) -> str:
    columns = np.arange(spec.input_dim).reshape(
        spec.input_x_dim, spec.input_y_dim, spec.input_z_dim
    )
    x, y, z = (
        (getattr(spec, f"pool_{a}_step") * np.arange(n))[:, None]
        + np.arange(getattr(spec, f"pool_{a}_size"))
        for a, n in zip("xyz", spec.pools, strict=True)
    )
    boxes = columns[
        x[:, None, None, :, None, None],
        y[None, :, None, None, :, None],
        z[None, None, :, None, None],
    ]
    taken = g.op("Gather", rows, g.integers(*boxes.ravel().tolist()), axis=2)
    grouped = in_blocks(taken, spec.output_dim, boxes.size // spec.output_dim, g)
    return g.op("Max", g.op("ReduceMax", grouped, axes=[-1], keepdims=0), g.numbers(LOWEST))


@exports("LstmNonlinearityComponent")
def _lstm(spec: Any, rows: str, g: Graph) -> str:
    cells = spec.cell_dim
    i, f, c, o, last, *masks = g.split(rows, [cells] * 5 + ([1, 1, 1] if spec.use_dropout else []))
    w_ic, w_fc, w_oc = (g.constant(np.ascontiguousarray(w)) for w in spec.weights)
    i = g.op("Sigmoid", g.op("Add", i, g.op("Mul", last, w_ic)))
    f = g.op("Sigmoid", g.op("Add", f, g.op("Mul", last, w_fc)))
    if masks:
        i, f = g.op("Mul", i, masks[0]), g.op("Mul", f, masks[1])
    cell = g.op("Add", g.op("Mul", f, last), g.op("Mul", i, g.op("Tanh", c)))
    o = g.op("Sigmoid", g.op("Add", o, g.op("Mul", cell, w_oc)))
    if masks:
        o = g.op("Mul", o, masks[2])
    return g.append([cell, g.op("Mul", o, g.op("Tanh", cell))])


def _gru_output(z: str, inner: str, last: str, g: Graph) -> str:
    """tanh(inner), and (1 - z) tanh(inner) + z last."""
    h = g.op("Tanh", inner)
    kept = g.op("Mul", z, g.op("Sub", last, h))
    return g.append([h, g.op("Add", h, kept)])


@exports("GruNonlinearityComponent")
def _gru(spec: Any, rows: str, g: Graph) -> str:
    cells, recurrent = spec.cell_dim, spec.recurrent_dim
    sizes = [cells, recurrent, cells, cells] + ([recurrent] if spec.is_projected else [])
    z, r, inner, last, *rest = g.split(rows, sizes)
    state = rest[0] if rest else last
    fed_back = g.affine(g.op("Mul", r, state), spec.w_h)
    return _gru_output(z, g.op("Add", inner, fed_back), last, g)


@exports("OutputGruNonlinearityComponent")
def _output_gru(spec: Any, rows: str, g: Graph) -> str:
    z, inner, last = g.split(rows, [spec.cell_dim] * 3)
    weights = g.constant(np.ascontiguousarray(spec.w_h.reshape(-1)))
    fed_back = g.op("Mul", last, weights)
    return _gru_output(z, g.op("Add", inner, fed_back), last, g)
