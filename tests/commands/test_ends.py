"""Commands that are killed, stopped, or have no room: what there was stays, or is complete."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnet.data.tables import read_matrices
from nnet.data.writers import AlignmentWriter
from tests.processes import Ended, run_command
from tests.support import GOLDEN

NET = GOLDEN / "nets/tdnnf"
POINTS = 20

Run = Callable[..., Ended]
COMMANDS: dict[str, list[str]] = {
    "copy": ["copy", f"{NET}/init.raw", "{out}/a.raw"],
    "compute": [
        "compute", f"{NET}/trained.raw", f"ark:{NET}/feats.ark", "ark,t:{out}/a.ark",
        f"--online-ivectors=ark:{NET}/ivectors.ark", "--online-ivector-period=10",
    ],
    "get-egs": [
        "get-egs", f"ark:{NET}/feats.ark", "ark:{out}.ali", "ark:{out}/a.ark", "--num-pdfs=6",
        "--num-frames=8",
    ],
}  # fmt: skip


def runner(name: str, out: Path) -> Run:
    words = [word.replace("{out}", str(out)) for word in COMMANDS[name]]
    with AlignmentWriter(f"ark:{out}.ali") as writer:
        for utterance, features in read_matrices(f"ark:{NET}/feats.ark"):
            writer.write(utterance, np.arange(len(features)) % 6)
    return lambda **how: run_command(out, *words, **how)


def some_points(operations: int, size: int) -> Iterator[dict[str, Any]]:
    """20 places where a process is killed, always the same: before an operation, or at a byte."""
    for operation in range(operations):
        yield {"at": operation}
    for length in random.Random(7).sample(range(size), POINTS - operations):
        yield {"file_size": length, "deadly": True}


@pytest.fixture(params=sorted(COMMANDS))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Run, Path, bytes, int]:
    """A command, its output, what it writes, and how many file operations that takes."""
    out = tmp_path / "out"
    out.mkdir()
    run = runner(request.param, out)
    whole = run()
    assert whole.status == 0, whole.errors
    (path,) = out.iterdir()
    written = path.read_bytes()
    path.unlink()
    return run, path, written, whole.operations


def test_a_killed_command_leaves_what_there_was(case: tuple[Run, Path, bytes, int]) -> None:
    run, path, written, operations = case
    for number, point in enumerate(some_points(operations, len(written))):
        before = b"earlier" if number % 2 else None
        if before:
            path.write_bytes(before)
        assert run(**point).status in (-signal.SIGKILL, -signal.SIGXFSZ)
        assert (path.read_bytes() if path.exists() else None) in (before, written)
        path.unlink(missing_ok=True)
    assert run().status == 0
    assert path.read_bytes() == written


def test_a_stopped_command_ends_with_one_line_and_no_temporary_files(
    case: tuple[Run, Path, bytes, int],
) -> None:
    run, path, _, operations = case
    for at in range(operations):
        number, status, word = (
            (signal.SIGTERM, 143, "terminated") if at % 2 else (signal.SIGINT, 130, "interrupted")
        )
        ended = run(at=at, number=number)
        assert (ended.status, ended.errors) == (status, [f"nnet: {word}"])
        assert [*path.parent.iterdir()] == []


def test_a_full_disk_is_one_line_and_leaves_what_there_was(
    case: tuple[Run, Path, bytes, int],
) -> None:
    run, path, written, _ = case
    path.write_bytes(b"earlier")
    for size in (400, len(written) // 2, len(written) - 1):
        ended = run(file_size=size)
        assert ended.status == 1
        (line,) = [x for x in ended.errors if x.startswith("nnet: /")]
        assert "cannot write: File too large; choose a place that" in line
        assert path.read_bytes() == b"earlier"
        assert len(list(path.parent.iterdir())) == 1
