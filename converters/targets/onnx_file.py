"""ONNX files; the operators are in `nnet.converters.onnx`."""

from __future__ import annotations

from nnet.converters.targets.registry import Content, TargetOptions, file_target
from nnet.converters.targets.remarks import segment_remarks
from nnet.modelfile.model import Model


@file_target("onnx")
def onnx_file(model: Model, options: TargetOptions) -> Content:
    from nnet.converters.onnx.export import onnx_bytes

    data = onnx_bytes(model.network, subsampling=options.subsampling)
    return Content(data, segment_remarks(model.network))
