"""Training that is killed, stopped, or has no room, and then resumed: the same result."""

from __future__ import annotations

import json
import random
import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nnet.training.feeds.tables import Tables
from tests.processes import Ended, run_command

POINTS = 20
IN_A_ROW = 5
"""A run is killed so often, the resumed ones too, before it may end."""
NET = """
input dim=6 name=input
relu-batchnorm-layer name=tdnn1 dim=8 input=Append(-1,0,1)
output-layer name=output dim=4
"""

Train = Callable[..., Ended]


@pytest.fixture
def train(tmp_path: Path, tables: Tables) -> Train:
    """Runs `nnet train` into a folder; keywords say how it ends."""
    net = tmp_path / "net.xconfig"
    net.write_text(NET)
    words = [
        "train", net, "{out}", "--feats", tables.feats, "--targets", tables.targets,
        "--num-epochs=2", "--chunk-width=30,20", "--checkpoint-every=5", "--no-tensorboard",
    ]  # fmt: skip

    def run(out: Path, *more: str, **how: object) -> Ended:
        return run_command(out, *(out if word == "{out}" else word for word in words), *more, **how)

    return run


def result(out: Path) -> tuple[bytes, list[tuple[object, ...]]]:
    """The trained model, and what train.jsonl says but for the times."""
    events = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    told = [(e["event"], e["step"], e.get("objective")) for e in events]
    return (out / "final.raw").read_bytes(), told


@pytest.fixture
def whole(train: Train, tmp_path: Path) -> tuple[Ended, Path]:
    """An unbroken run, and its folder."""
    ended = train(tmp_path / "whole")
    assert ended.status == 0, ended.errors
    return ended, tmp_path / "whole"


def hidden(out: Path) -> list[Path]:
    return list(out.rglob(".*"))


def test_a_killed_run_is_resumed_to_the_same_result(
    train: Train, whole: tuple[Ended, Path], tmp_path: Path
) -> None:
    ended, folder = whole
    expected = result(folder)
    points = random.Random(3).sample(range(ended.operations), POINTS)
    for number in range(0, POINTS, IN_A_ROW):
        out = tmp_path / f"out{number}"
        for point in points[number : number + IN_A_ROW]:
            assert train(out, "--resume", at=point).status in (0, -signal.SIGKILL)
        again = train(out, "--resume")
        assert again.status == 0, again.errors
        assert result(out) == expected
        assert hidden(out) == []


def test_a_stopped_run_says_so_in_one_line_and_has_a_checkpoint(
    train: Train, whole: tuple[Ended, Path], tmp_path: Path
) -> None:
    ended, folder = whole
    for number, status, word in (
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGINT, 130, "interrupted"),
    ):
        out = tmp_path / word
        stopped = train(out, at=ended.operations // 2, number=number)
        assert stopped.status == status
        assert stopped.errors[-1] == f"nnet: {word}; go on with --resume"
        assert [line for line in stopped.errors if not line.startswith(("epoch", "nnet: "))] == []
        assert list((out / "checkpoints").glob("*.safetensors"))
        assert hidden(out) == []
        assert train(out, "--resume").status == 0
        assert result(out) == result(folder)


def test_to_resume_a_finished_run_changes_nothing(train: Train, whole: tuple[Ended, Path]) -> None:
    _, out = whole
    before = {path: (path.stat().st_mtime_ns, path.is_file()) for path in out.rglob("*")}
    assert train(out, "--resume").status == 0
    assert {path: (path.stat().st_mtime_ns, path.is_file()) for path in out.rglob("*")} == before


def test_a_full_disk_ends_a_run_that_goes_on_when_there_is_room(
    train: Train, whole: tuple[Ended, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = train(out, file_size=9000)
    assert ended.status == 1
    assert "cannot write: File too large" in ended.errors[-1]
    assert not [line for line in ended.errors if "Traceback" in line]
    assert train(out, "--resume").status == 0
    assert result(out) == result(whole[1])


def test_of_two_runs_at_once_into_one_folder_one_ends_well(
    train: Train, whole: tuple[Ended, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: train(out), range(2))
    done, refused = sorted((first, second), key=lambda ended: ended.status)
    assert (done.status, refused.status) == (0, 1)
    message = "another run is writing into this folder|holds the results of an earlier run"
    assert re.search(message, refused.errors[-1])
    assert result(out) == result(whole[1])


def test_another_run_asks_for_force(train: Train, whole: tuple[Ended, Path]) -> None:
    _, out = whole
    expected = result(out)
    refused = train(out)
    assert refused.status == 1
    assert "holds the results of an earlier run; go on with it with --resume" in refused.errors[0]
    assert train(out, "--force").status == 0
    assert result(out) == expected
