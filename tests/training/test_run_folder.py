"""One run at a time in a folder, and none over another by accident."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnet.errors import NnetError
from nnet.training.run_folder import RunFolder


def folder(
    path: Path, *, resume: bool = False, force: bool = False, leads: bool = True
) -> RunFolder:
    return RunFolder(path, resume=resume, force=force, leads=leads)


def test_nothing_is_made_before_it_is_claimed(tmp_path: Path) -> None:
    with folder(tmp_path / "a/b") as mine:
        assert list(tmp_path.iterdir()) == []
        mine.claim()
        mine.claim()
        assert (tmp_path / "a/b/checkpoints").is_dir()


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with folder(tmp_path) as first, folder(tmp_path, resume=True) as second:
        first.claim()
        with pytest.raises(NnetError, match="another run is writing into this folder; wait until"):
            second.claim()
    with folder(tmp_path) as third:
        third.claim()


def test_a_run_that_lost_the_race_sees_the_results_of_the_other(tmp_path: Path) -> None:
    with folder(tmp_path) as late:
        with folder(tmp_path) as early:
            early.claim()
            (tmp_path / "final.raw").touch()
        with pytest.raises(NnetError, match="holds the results of an earlier run"):
            late.claim()


def test_processes_that_do_not_lead_leave_the_folder_alone(tmp_path: Path) -> None:
    with folder(tmp_path) as leading, folder(tmp_path, leads=False) as other:
        leading.claim()
        other.claim()


def test_what_dead_runs_left_half_written_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    kept, gone = tmp_path / "notes.tmp", tmp_path / "checkpoints/.step-1.safetensors.ab3_.tmp"
    kept.touch()
    gone.touch()
    with folder(tmp_path) as mine:
        mine.claim()
    assert kept.exists()
    assert not gone.exists()


def test_force_deletes_the_results_of_another_run_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "tensorboard").mkdir()
    for name in ("final.mdl", "train.jsonl", "checkpoints/step-000000001.safetensors", "notes"):
        (tmp_path / name).touch()
    with pytest.raises(NnetError, match="go on with it with --resume, delete them with --force"):
        folder(tmp_path)
    with folder(tmp_path, force=True) as mine:
        assert (tmp_path / "final.mdl").exists()
        mine.claim()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["checkpoints", "notes"]


def test_a_result_without_checkpoints_cannot_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "final.raw").touch()
    with pytest.raises(NnetError, match=r"final.raw is there, but no checkpoint to go on from"):
        folder(tmp_path, resume=True)
