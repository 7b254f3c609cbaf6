"""Checkpoints: whole trees, bit for bit; damage is noticed."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from nnet.errors import NnetError
from nnet.training.checkpoints.checkpoint import (
    check_state,
    checkpoint_path,
    checkpoints,
    keep_newest,
    read_checkpoint,
    read_newest,
    write_checkpoint,
)
from nnet.training.random_state import random_state, seed_all, set_random_state
from tests.support import GOLDEN


def test_a_tree_of_tensors_and_values_survives(tmp_path: Path) -> None:
    shared = torch.randn(3, 2)
    state = {
        "module": {"a": shared, "b": shared.t(), "count": torch.tensor(7.0)},
        "optimizer": {"state": {0: {"step": torch.tensor(3)}, 11: {}}, "groups": [{"lr": 0.1}]},
        "position": {"epoch": 3, "place": [1, None, "x", 1e-300]},
    }
    write_checkpoint(tmp_path / "c.safetensors", state)
    back = read_checkpoint(tmp_path / "c.safetensors")
    assert back["position"] == state["position"]
    assert list(back["optimizer"]["state"]) == [0, 11]
    assert back["optimizer"]["groups"] == [{"lr": 0.1}]
    torch.testing.assert_close(back["module"]["b"], shared.t(), rtol=0, atol=0)
    assert back["optimizer"]["state"][0]["step"].dtype == torch.int64


def test_all_random_generators_go_on_where_they_were(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [torch.rand(()).item(), float(np.random.rand()), random.random()]

    seed_all(3)
    draw()
    write_checkpoint(tmp_path / "r.safetensors", random_state())
    expected = draw()
    seed_all(4)
    set_random_state(read_checkpoint(tmp_path / "r.safetensors"))
    assert draw() == expected


def test_the_newest_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        write_checkpoint(checkpoint_path(tmp_path, step), {"step": step})
    keep_newest(tmp_path, 2)
    assert [path.name for path in checkpoints(tmp_path)] == [
        "step-000000010.safetensors",
        "step-000000100.safetensors",
    ]
    assert read_newest(tmp_path) == {"step": 100}


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_checkpoint(checkpoint_path(tmp_path, 1), {"step": 1})
    data = checkpoint_path(tmp_path, 1).read_bytes()
    checkpoint_path(tmp_path, 2).write_bytes(data[:-3])
    assert read_newest(tmp_path) == {"step": 1}
    assert "step-000000002.safetensors: not a readable checkpoint" in caplog.text
    checkpoint_path(tmp_path, 1).write_bytes(b"")
    with pytest.raises(NnetError, match="none of 2 checkpoints can be read"):
        read_newest(tmp_path)


def test_a_full_disk_is_one_clean_error_and_keeps_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_checkpoint(checkpoint_path(tmp_path, 1), {"step": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(NnetError, match="cannot write: No space left on device"):
            write_checkpoint(checkpoint_path(tmp_path, 2), {"step": 2})
    assert read_newest(tmp_path) == {"step": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_without_checkpoints_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert read_newest(tmp_path / "missing") is None


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, {"a": torch.arange(5.0)})
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(NnetError, match="not a readable checkpoint"):
            read_checkpoint(path)


def damaged(tmp_path: Path) -> Iterator[bytes]:
    """A small checkpoint with one bit changed, for some bit of every byte."""
    path = tmp_path / "whole.safetensors"
    write_checkpoint(path, {"a": torch.arange(5.0), "b": {"c": [3, "x"], "d": {1: torch.ones(2)}}})
    data = path.read_bytes()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        yield bytes(changed)


def test_a_changed_bit_anywhere_is_found(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    for data in damaged(tmp_path):
        path.write_bytes(data)
        with pytest.raises(NnetError, match="not a readable checkpoint"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "name",
    ["checkpoint-7a610a0d", "checkpoint_every_bit-124c9b51", "checkpoint_every_bit-fdad32a1"],
)
def test_damaged_headers_that_have_been_seen(name: str, tmp_path: Path) -> None:
    """The header names a tensor that there is not, or has a wrong key; there is no checksum."""
    path = checkpoint_path(tmp_path, 2)
    shutil.copy(GOLDEN / f"faults/{name}.bin", path)
    with pytest.raises(NnetError, match="not a readable checkpoint: it has no checksum"):
        read_checkpoint(path)
    write_checkpoint(checkpoint_path(tmp_path, 1), {"step": 1})
    assert read_newest(tmp_path) == {"step": 1}


def test_a_header_that_is_damaged_although_its_checksum_is_right(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    for tree in (
        "{",
        "3",
        '{"a": {"$tensor": "/b"}}',
        '{"a": {"$tensor": [1]}}',
        '{"a": {"$integer keys": {"!": 1}}}',
        '{"a": {"$integer keys": 3}}',
    ):
        blank = save({}, metadata={"nnet": tree, "sha256": "0" * 64})
        checksum = hashlib.sha256(blank).hexdigest()
        path.write_bytes(blank.replace(b"0" * 64, checksum.encode()))
        with pytest.raises(NnetError, match="not a readable checkpoint"):
            read_checkpoint(path)


def test_a_checkpoint_of_other_names_or_shapes_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = {"position": {"step": 0}, "module": {"a.linear": torch.zeros(2, 3)}}
    good = {"position": {"step": 1}, "module": {"a.linear": torch.ones(2, 3)}}
    write_checkpoint(checkpoint_path(tmp_path, 1), good)
    for step, (state, message) in enumerate(
        (
            ({"position": {"step": 2}}, "it has no 'module'"),
            ({**good, "position": [2]}, "its 'position' is [2]"),
            ({**good, "module": {}}, "its 'module' has other names than that of this run: a.lin"),
            (
                {**good, "module": {"a.linear": torch.ones(3, 2)}},
                "its 'a.linear' is torch.float32 (3, 2); expected: torch.float32 (2, 3)",
            ),
        ),
        2,
    ):
        path = checkpoint_path(tmp_path, step)
        write_checkpoint(path, state)
        found = read_newest(tmp_path, lambda state: check_state(state, expected))
        assert found is not None
        assert found["position"] == {"step": 1}
        assert f"{path}: not the state of this run: {message}" in caplog.text
        path.unlink()
