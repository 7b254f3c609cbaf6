"""Kaldi's own model files."""

from __future__ import annotations

from nnet.converters.targets.registry import Content, TargetOptions, file_target
from nnet.modelfile.model import Model, model_bytes


@file_target("nnet3")
def nnet3_file(model: Model, options: TargetOptions) -> Content:
    return Content(model_bytes(model, binary=options.binary))
