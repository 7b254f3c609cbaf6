"""A network as an ONNX model of whole utterances.

Inputs: `input` (batch, frames, dim), and every other input, such as `ivector`, (batch, dim), once
for an utterance. Output: `output` (batch, frames / subsampling, dim). As in nnet3-compute, the
first and last frame are repeated beyond the edges.
"""

from __future__ import annotations

from nnet.converters.onnx.analysis import (
    MAIN_INPUT,
    Analysis,
    analyse,
)
from nnet.converters.onnx.emitter import Emitter
from nnet.converters.onnx.graph import IR_VERSION, LAST, OPSET, Graph, onnx_module
from nnet.converters.onnx.loop import compute_loop
from nnet.converters.onnx.spans import Span
from nnet.errors import NnetError
from nnet.graph.context import context
from nnet.graph.dims import descriptor_dim
from nnet.graph.network import Network, OutputNode
from nnet.graph.segments import makes_segments

ONLY_ONCE = 2**40
"""Frames from an output to the next where there is one alone, whatever the utterance's length."""


def onnx_bytes(network: Network, *, output: str = "output", subsampling: int = 1) -> bytes:
    """The content of an ONNX file with one output of a network, in test mode.

    Raises:
        NnetError: something in the network cannot be expressed, or onnx is not installed.
    """
    onnx = onnx_module()
    node = network.nodes.get(output)
    if not isinstance(node, OutputNode):
        raise NnetError(f"the network has no output '{output}'")
    if subsampling < 1:
        raise NnetError(f"the subsampling factor is {subsampling}, expected at least 1")
    segment = makes_segments(network, output)
    reach, step = ((0, 0), ONLY_ONCE) if segment else (context(network), subsampling)
    analysis = analyse(network, node.input, reach, step)
    graph = Graph()
    emitter = Emitter(analysis, graph)
    _lengths(graph, 1 if segment else subsampling)
    for group in analysis.groups:
        if group.recurrent:
            emitter.rows.update(compute_loop(emitter, group))
        else:
            emitter.compute(group)
    rows = emitter.described(node.input, 0, Span(0, 0, step))
    rows = graph.op("Squeeze", rows, graph.integers(1)) if segment else rows
    graph.nodes.append(onnx.helper.make_node("Identity", [rows], [output]))
    times = () if segment else ("output_frames",)
    return _model(network, analysis, graph, node, times)


def _lengths(graph: Graph, subsampling: int) -> None:
    """The time of the last output: the last multiple of the subsampling factor that is there."""
    shape = graph.op("Shape", MAIN_INPUT, start=1, end=2)
    before = graph.op("Sub", shape, graph.integers(1))
    periods = graph.op("Div", before, graph.integers(subsampling))
    helper = onnx_module().helper
    factor = graph.integers(subsampling)
    graph.nodes.append(helper.make_node("Mul", [periods, factor], [LAST]))


def _model(
    network: Network, analysis: Analysis, graph: Graph, node: OutputNode, times: tuple[str, ...]
) -> bytes:
    onnx = onnx_module()
    real = onnx.TensorProto.FLOAT
    used = {name for group in analysis.groups for name, _ in group.places}
    inputs = [
        onnx.helper.make_tensor_value_info(
            n.name, real, ["batch", "frames", n.dim] if n.name == MAIN_INPUT else ["batch", n.dim]
        )
        for n in network.inputs()
        if n.name in used
    ]
    shape = ["batch", *times, descriptor_dim(network, node.input)]
    result = onnx.helper.make_tensor_value_info(node.name, real, shape)
    made = onnx.helper.make_graph(
        graph.nodes, "network", inputs, [result], initializer=list(graph.constants.values())
    )
    model = onnx.helper.make_model(
        made,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="nnet",
    )
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content
