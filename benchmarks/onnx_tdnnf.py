"""The plain TDNN-F of `plain_tdnnf` as an ONNX graph, for onnxruntime: every frame, batch 1."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.plain_tdnnf import Affine, BatchNorm, PlainTdnnf


class _Graph:
    """Collects nodes; every method gives the name of its result. Tensors are (time, dim)."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def rows(self, x: str, start: int, stop: int, step: int = 1) -> str:
        """Rows `start` up to `stop` (0 or negative: from the end)."""
        end = stop if stop < 0 else np.iinfo(np.int64).max
        values = [self.weight(np.array([v], dtype=np.int64)) for v in (start, end, 0, step)]
        return self.node("Slice", x, *values)

    def affine(self, module: Affine, x: str) -> str:
        first, last = min(module.offsets), max(module.offsets)
        parts = [self.rows(x, o - first, o - last) for o in module.offsets]
        spliced = self.node("Concat", *parts, axis=1) if len(parts) > 1 else x
        weight = self.weight(module.linear.detach().numpy())
        if module.bias is None:
            return self.node("Gemm", spliced, weight, transB=1)
        return self.node(
            "Gemm", spliced, weight, self.weight(module.bias.detach().numpy()), transB=1
        )

    def norm(self, module: BatchNorm, x: str) -> str:
        mean, variance = module.running_mean.numpy(), module.running_var.numpy()
        ones, zeros = np.ones_like(mean), np.zeros_like(mean)
        weights = [self.weight(a) for a in (ones, zeros, mean, variance)]
        return self.node("BatchNormalization", x, *weights, epsilon=module.eps)


def session(plain: PlainTdnnf, threads: int) -> onnxruntime.InferenceSession:
    """An onnxruntime session with inputs `features` (time, 40) and `ivector` (1, dim)."""
    graph = _Graph()
    frames = graph.rows("features", 1, -1)
    count = graph.node("Shape", frames, start=0, end=1)
    one = graph.weight(np.array([1], dtype=np.int64))
    ivectors = graph.node("Expand", "ivector", graph.node("Concat", count, one, axis=0))
    parts = [graph.rows("features", 0, -2), frames, graph.rows("features", 2, 0)]
    x = graph.node("Concat", *parts, ivectors, axis=1)
    lda = (plain.lda.detach().numpy(), plain.lda_bias.detach().numpy())
    x = graph.node("Gemm", x, *map(graph.weight, lda), transB=1)
    x = graph.norm(plain.norm1, graph.node("Relu", graph.affine(plain.tdnn1, x)))
    for layer in plain.layers:
        y = graph.affine(layer.affine, graph.affine(layer.linear, x))
        y = graph.norm(layer.norm, graph.node("Relu", y))
        kept = graph.rows(x, layer.left, -layer.right)
        scaled = graph.node("Mul", kept, graph.weight(np.array(0.66, dtype=np.float32)))
        x = graph.node("Add", y, scaled)
    for module in plain.prefinal:
        if isinstance(module, Affine):
            x = graph.affine(module, x)
        elif isinstance(module, BatchNorm):
            x = graph.norm(module, x)
        else:
            x = graph.node("Relu", x)
    x = graph.rows(x, 0, 0, 3)
    return _session(graph, x, plain.lda.shape[1] - 3 * 40, threads)


def _session(
    graph: _Graph, output: str, ivector_dim: int, threads: int
) -> onnxruntime.InferenceSession:
    value = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "tdnnf",
            [
                value("features", TensorProto.FLOAT, ["time", 40]),
                value("ivector", TensorProto.FLOAT, [1, ivector_dim]),
            ],
            [value(output, TensorProto.FLOAT, None)],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
