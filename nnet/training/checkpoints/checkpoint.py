"""Checkpoints: any tree of tensors and plain values in one safetensors file."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from nnet.atomic import atomic_write
from nnet.errors import NnetError

log = logging.getLogger(__name__)

NAME = re.compile(r"step-(\d{9})\.safetensors")
KEY = "nnet"
TENSOR = "$tensor"
INTEGER_KEYS = "$integer keys"


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes `state`, a tree of dicts and lists over tensors and JSON values, atomically.

    Raises:
        NnetError: the file cannot be written; what was there before is left.
    """
    tensors: dict[str, Tensor] = {}
    tree = _take_out_tensors(state, "", tensors)
    with atomic_write(path) as stream:
        stream.write(save(tensors, metadata={KEY: json.dumps(tree)}))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads what `write_checkpoint` wrote; tensors are on the CPU.

    Raises:
        NnetError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tree = json.loads((file.metadata() or {})[KEY])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise NnetError(f"{path}: not a readable checkpoint: {error}") from error
    state: dict[str, Any] = _put_back_tensors(tree, tensors)
    return state


def checkpoint_path(folder: Path, step: int) -> Path:
    """The name of the checkpoint after `step` minibatches."""
    return folder / f"step-{step:09d}.safetensors"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))


def read_newest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read; None if there is none at all.

    A damaged one (a bad disk: checkpoints appear whole) is passed over with a warning.

    Raises:
        NnetError: there are checkpoints and none can be read.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        try:
            return read_checkpoint(path)
        except NnetError as error:
            log.warning("%s; trying the one before", error)
    if found:
        raise NnetError(f"{folder}: none of {len(found)} checkpoints can be read; start anew")
    return None


def keep_newest(folder: Path, count: int) -> None:
    """Deletes all checkpoints but the newest `count`."""
    for path in checkpoints(folder)[:-count]:
        path.unlink(missing_ok=True)


def _take_out_tensors(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[place] = value.detach().to("cpu", copy=True).contiguous()
        return {TENSOR: place}
    if isinstance(value, dict):
        tree = {str(k): _take_out_tensors(v, f"{place}/{k}", tensors) for k, v in value.items()}
        has_integers = bool(value) and all(isinstance(key, int) for key in value)
        return {INTEGER_KEYS: tree} if has_integers else tree
    if isinstance(value, (list, tuple)):
        return [_take_out_tensors(v, f"{place}/{i}", tensors) for i, v in enumerate(value)]
    return value


def _put_back_tensors(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(tree, list):
        return [_put_back_tensors(value, tensors) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if TENSOR in tree:
        return tensors[tree[TENSOR]]
    if INTEGER_KEYS in tree:
        return {int(k): _put_back_tensors(v, tensors) for k, v in tree[INTEGER_KEYS].items()}
    return {key: _put_back_tensors(value, tensors) for key, value in tree.items()}
