"""Checkpoints: any tree of tensors and plain values in one safetensors file, with a checksum."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from nnet.atomic import atomic_write
from nnet.errors import NnetError

log = logging.getLogger(__name__)

State = dict[str, Any]

NAME = re.compile(r"step-(\d{9})\.safetensors")
KEY = "nnet"
TENSOR = "$tensor"
INTEGER_KEYS = "$integer keys"
CHECKSUM = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_UNREADABLE = (
    OSError, SafetensorError, LookupError, TypeError, ValueError, AttributeError, RecursionError,
)  # fmt: skip
NO_CHECKSUM = "0" * 64
"""Stands in the place of the checksum, which is that of the file with this."""


def write_checkpoint(path: Path, state: State) -> None:
    """Writes `state`, a tree of dicts and lists over tensors and JSON values, atomically.

    Raises:
        NnetError: the file cannot be written; what was there before is left.
    """
    tensors: dict[str, Tensor] = {}
    tree = _take_out_tensors(state, "", tensors)
    metadata = {KEY: json.dumps(tree), "sha256": NO_CHECKSUM}
    data = memoryview(save(tensors, metadata=metadata))
    start, end, _ = _checksum(data)
    with atomic_write(path) as stream:
        for piece in (data[:start], _digest(data, start, end).encode(), data[end:]):
            stream.write(piece)


def read_checkpoint(path: Path) -> State:
    """Reads what `write_checkpoint` wrote; tensors are on the CPU.

    Raises:
        NnetError: the file is missing or damaged.
    """
    try:
        data = path.read_bytes()
        start, end, written = _checksum(memoryview(data))
        if _digest(memoryview(data), start, end) != written:
            raise ValueError("it does not have the checksum that it was written with")
        header = json.loads(data[8 : 8 + _header_size(data)])
        tree = json.loads(header["__metadata__"][KEY])
        state = _put_back_tensors(tree, load(data))
    except _UNREADABLE as error:
        raise NnetError(f"{path}: not a readable checkpoint: {error}") from error
    if not isinstance(state, dict):
        raise NnetError(f"{path}: not a readable checkpoint: it holds no names")
    return state


def checkpoint_path(folder: Path, step: int) -> Path:
    """The name of the checkpoint after `step` minibatches."""
    return folder / f"step-{step:09d}.safetensors"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))


def read_newest(folder: Path, check: Callable[[State], None] | None = None) -> State | None:
    """The newest checkpoint that can be read; None if there is none at all.

    A damaged one (a bad disk: checkpoints appear whole) is passed over with a warning.

    Args:
        folder: with the checkpoints.
        check: raises NnetError for a checkpoint that cannot be used.

    Raises:
        NnetError: there are checkpoints and none can be read.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        try:
            state = read_checkpoint(path)
            if check is not None:
                _check(path, state, check)
        except NnetError as error:
            log.warning("%s; trying the one before", error)
        else:
            return state
    if found:
        raise NnetError(f"{folder}: none of {len(found)} checkpoints can be read; start anew")
    return None


def _check(path: Path, state: State, check: Callable[[State], None]) -> None:
    try:
        check(state)
    except NnetError as error:
        raise NnetError(f"{path}: not the state of this run: {error}") from None


def keep_newest(folder: Path, count: int) -> None:
    """Deletes all checkpoints but the newest `count`."""
    for path in checkpoints(folder)[:-count]:
        path.unlink(missing_ok=True)


def check_state(state: State, expected: State) -> None:
    """Raises NnetError unless a state has the names of another, and its module's shapes."""
    for name, inner in expected.items():
        if name not in state:
            raise NnetError(f"it has no '{name}'")
        found = state[name]
        if isinstance(inner, dict):
            if not isinstance(found, dict):
                raise NnetError(f"its '{name}' is {_described(found)}")
            if different := found.keys() ^ inner.keys():
                names = ", ".join(sorted(map(str, different))[:5])
                raise NnetError(f"its '{name}' has other names than that of this run: {names}")
    for name, tensor in expected["module"].items():
        found = state["module"][name]
        if isinstance(tensor, Tensor) and _described(found) != _described(tensor):
            raise NnetError(f"its '{name}' is {_described(found)}; expected: {_described(tensor)}")


def _described(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.200}"


def _header_size(data: bytes | memoryview) -> int:
    return int.from_bytes(data[:8], "little")


def _digest(data: memoryview, start: int, end: int) -> str:
    """The checksum of a file, in which it stands from `start` to `end`."""
    checksum = hashlib.sha256(data[:start])
    checksum.update(NO_CHECKSUM.encode())
    checksum.update(data[end:])
    return checksum.hexdigest()


def _checksum(data: memoryview) -> tuple[int, int, str]:
    """Where the checksum stands in a file, and the checksum.

    Raises:
        ValueError: there is none, or the file is too short.
    """
    end = 8 + _header_size(data)
    if len(data) < end:
        raise ValueError(f"it has {len(data)} bytes, and its header would end at {end}")
    found = [*CHECKSUM.finditer(data, 8, end)]
    if len(found) != 1:
        raise ValueError("it has no checksum")
    return *found[0].span(1), found[0][1].decode()


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
