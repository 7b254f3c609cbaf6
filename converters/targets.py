"""Writing a model of nnet3 in the formats that `--to` names."""

from __future__ import annotations

from dataclasses import dataclass

from nnet.errors import NnetError, nearest
from nnet.modelfile.model import Model, model_bytes
from nnet.modelfile.writing import save_bytes

TARGETS = ("nnet3", "nnet3-config", "onnx", "torch-export")


def check_target(target: str) -> None:
    """Raises NnetError unless `target` is one of `TARGETS`."""
    if target not in TARGETS:
        meant = nearest(target, TARGETS)
        hint = f"; did you mean {meant}?" if meant else ""
        raise NnetError(f"unknown target '{target}', expected one of {', '.join(TARGETS)}{hint}")


@dataclass(frozen=True)
class TargetOptions:
    """How a model is written.

    Args:
        binary: nnet3 and nnet3-config: in Kaldi's binary form.
        subsampling: onnx and torch-export: input frames per output frame.
        frames: torch-export: frames of a chunk.
    """

    binary: bool = True
    subsampling: int = 1
    frames: int = 50


def write_target(model: Model, target: str, path: str, options: TargetOptions) -> list[str]:
    """Writes a model as `target` to a file, or to a folder for nnet3-config.

    Returns:
        What there is to say about the result.

    Raises:
        NnetError: the model cannot be expressed in the format, or the file not be written.
    """
    check_target(target)
    if target != "nnet3-config":
        save_bytes(target_bytes(model, target, options), path)
        return []
    from nnet.converters.config_files import write_config_files

    return write_config_files(model.network, path, binary=options.binary)


def target_bytes(model: Model, target: str, options: TargetOptions) -> bytes:
    """The content of a model's file in a format that is one file."""
    check_target(target)
    if target == "nnet3":
        return model_bytes(model, binary=options.binary)
    if target == "onnx":
        from nnet.converters.onnx.export import onnx_bytes

        return onnx_bytes(model.network, subsampling=options.subsampling)
    if target == "torch-export":
        from nnet.converters.torch_export import torch_export_bytes

        return torch_export_bytes(
            model.network, subsampling=options.subsampling, frames=options.frames
        )
    raise NnetError(f"'{target}' is a folder; give it a place with write_target")
