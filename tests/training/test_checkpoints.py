"""Checkpoints: whole trees, bit for bit; damage is noticed."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from nnet.errors import NnetError
from nnet.training.checkpoints.checkpoint import (
    checkpoint_path,
    checkpoints,
    keep_newest,
    read_checkpoint,
    read_newest,
    write_checkpoint,
)
from nnet.training.checkpoints.random_state import random_state, seed_all, set_random_state


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
