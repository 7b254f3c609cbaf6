"""What a hand-written module of plain torch becomes: eager, inductor, an onnxruntime session."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable

import onnxruntime
import torch
from torch import Tensor, nn

Run = Callable[[], object]


def eager(module: nn.Module, inputs: tuple[Tensor, ...]) -> Run:
    """The module as it is."""
    return lambda: module(*inputs)


def inductor(module: nn.Module, inputs: tuple[Tensor, ...]) -> Run:
    """`torch.compile` for exactly these shapes, with the present number of threads."""
    torch.compiler.reset()
    compiled = torch.compile(module, dynamic=False)
    compiled(*inputs)
    return lambda: compiled(*inputs)


def onnx_session(module: nn.Module, inputs: tuple[Tensor, ...], threads: int) -> Run:
    """The module traced to ONNX for these shapes, in onnxruntime with all of its optimizations."""
    file = io.BytesIO()
    names = [f"input{number}" for number in range(len(inputs))]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is an older one; it needs no onnxscript
        torch.onnx.export(module, inputs, file, input_names=names, dynamo=False)
    session = session_of(file.getvalue(), threads)
    feeds = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
    return lambda: session.run(None, feeds)


def session_of(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    """An ONNX model in onnxruntime, with all of its optimizations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
