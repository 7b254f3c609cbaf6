"""The formats that a model of nnet3 can be written in: each a file of this folder."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import nnet.converters.targets
from nnet.errors import NnetError, nearest
from nnet.modelfile.model import Model
from nnet.modelfile.writing import save_bytes


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


@dataclass(frozen=True)
class Content:
    """What a file is to hold, and what there is to say about it."""

    data: bytes
    remarks: tuple[str, ...] = ()


MakeFile = Callable[[Model, TargetOptions], Content]
MakeFolder = Callable[[Model, str, TargetOptions], list[str]]
"""Writes a model to a folder; returns what there is to say about it."""


@dataclass(frozen=True)
class Target:
    """A format: one file, or a folder."""

    file: MakeFile | None = None
    folder: MakeFolder | None = None


_targets: dict[str, Target] = {}


def file_target(name: str) -> Callable[[MakeFile], MakeFile]:
    """Registers a format that is one file, by the name that `--to` has for it."""

    def register(make: MakeFile) -> MakeFile:
        _targets[name] = Target(file=make)
        return make

    return register


def folder_target(name: str) -> Callable[[MakeFolder], MakeFolder]:
    """Registers a format that is a folder, by the name that `--to` has for it."""

    def register(make: MakeFolder) -> MakeFolder:
        _targets[name] = Target(folder=make)
        return make

    return register


@functools.cache
def targets() -> dict[str, Target]:
    """All formats by name, from every file of this folder."""
    for module in pkgutil.iter_modules(nnet.converters.targets.__path__):
        importlib.import_module(f"nnet.converters.targets.{module.name}")
    return dict(sorted(_targets.items()))


def check_target(name: str) -> None:
    """Raises NnetError unless there is a format of this name."""
    if name not in targets():
        meant = nearest(name, targets())
        hint = f"; did you mean {meant}?" if meant else ""
        raise NnetError(f"unknown target '{name}', expected one of {', '.join(targets())}{hint}")


def write_target(model: Model, name: str, path: str, options: TargetOptions) -> list[str]:
    """Writes a model in a format to a file, or to a folder for nnet3-config.

    Returns:
        What there is to say about the result.

    Raises:
        NnetError: the model cannot be expressed in the format, or the file not be written.
    """
    check_target(name)
    chosen = targets()[name]
    if chosen.folder is not None:
        return chosen.folder(model, path, options)
    content = target_content(model, name, options)
    save_bytes(content.data, path)
    return list(content.remarks)


def target_content(model: Model, name: str, options: TargetOptions) -> Content:
    """What the file of a model in a format is to hold.

    Raises:
        NnetError: the model cannot be expressed in the format, or that is a folder.
    """
    check_target(name)
    make = targets()[name].file
    if make is None:
        raise NnetError(f"'{name}' is a folder; give it a place with write_target")
    return make(model, options)
