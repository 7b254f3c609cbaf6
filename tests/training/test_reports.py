"""What a run tells: log, progress, curves, TensorBoard."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from nnet.errors import NnetError
from nnet.training.reports import tensorboard
from nnet.training.reports.curves import draw_curves
from nnet.training.reports.json_log import JsonLog
from nnet.training.reports.progress import ProgressDisplay
from nnet.training.reports.records import History, MinibatchRecord, Position, ValidationRecord
from nnet.training.reports.tensorboard import TensorBoardLog


def minibatch(step: int, steps: int = 100, accuracy: float | None = 0.5) -> MinibatchRecord:
    return MinibatchRecord(
        step=step,
        epoch=(step - 1) // 50,
        done=step / steps,
        objective=-1.0 / step,
        accuracy=accuracy,
        weight=100.0,
        learning_rate=0.01,
        grad_norm=1.0,
        frames_per_second=1000.0,
    )


def validation(step: int) -> ValidationRecord:
    return ValidationRecord(step, step / 50, -0.5, 0.75, 1000.0, 0.1)


def history() -> History:
    result = History(points=20)
    for step in range(1, 101):
        result.add_minibatch(minibatch(step), num_epochs=2)
    result.add_validation(validation(50))
    result.add_validation(validation(100))
    return result


def test_history_gathers_minibatches_into_points() -> None:
    points = history().train
    assert len(points) == 20
    assert points[-1].epochs == 2.0
    assert points[0].objective == pytest.approx(-sum(1 / step for step in range(1, 6)) / 5)
    assert points[0].accuracy == 0.5


def test_history_survives_a_checkpoint() -> None:
    before = history()
    state = json.loads(json.dumps(before.state()))
    assert History.of(state) == before


def events(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_log_has_one_event_a_line(tmp_path: Path) -> None:
    log = JsonLog(tmp_path / "train.jsonl", {"options": {"seed": 1}})
    log.start(Position())
    log.minibatch(minibatch(1))
    log.validation(validation(1))
    log.close()
    first, second, third = events(tmp_path / "train.jsonl")
    assert first == {"event": "start", "step": 0, "options": {"seed": 1}}
    assert (second["event"], second["step"], second["objective"]) == ("minibatch", 1, -1.0)
    assert (third["event"], third["accuracy"]) == ("validation", 0.75)


def test_a_resumed_log_holds_every_minibatch_once(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    log = JsonLog(path, {})
    log.start(Position())
    for step in range(1, 8):
        log.minibatch(minibatch(step))
    log.close()
    with path.open("a") as file:
        file.write('{"event": "minib')  # killed here
    again = JsonLog(path, {})
    again.start(Position(step=5))
    again.minibatch(minibatch(6))
    again.close()
    assert [event["step"] for event in events(path)] == [0, 1, 2, 3, 4, 5, 6]


def test_a_full_disk_is_one_clean_error(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").symlink_to("/dev/full")
    log = JsonLog(tmp_path / "train.jsonl", {})
    log.start(Position())
    with pytest.raises(NnetError, match=r"train.jsonl: cannot write: No space left on device"):
        log.saving()


def test_lines_without_a_terminal() -> None:
    out = io.StringIO()
    display = ProgressDisplay(2, Console(file=out, width=100))
    display.start(Position())
    for step in range(1, 51):
        display.minibatch(minibatch(step))
    display.validation(validation(50))
    display.minibatch(minibatch(51))
    display.close()
    lines = out.getvalue().splitlines()
    assert lines[0].split() == [
        "epoch", "1/2", "train", "-0.0900", "50.00%", "1,000", "frames/s", "valid", "-0.5000",
        "75.00%",
    ]  # fmt: skip
    assert lines[1].startswith("epoch     2/2   train  -0.0196 50.00%")
    assert len(lines) == 2


def test_a_bar_on_a_terminal() -> None:
    out = io.StringIO()
    display = ProgressDisplay(2, Console(file=out, force_terminal=True, width=120))
    display.start(Position(epoch=1, step=50))
    display.minibatch(minibatch(51))
    display.close()
    assert "going on after minibatch 50 (epoch 2)" in out.getvalue()
    assert "epoch 2/2" in out.getvalue()


@pytest.mark.parametrize("accuracy", [0.5, None])
def test_curves_are_drawn(tmp_path: Path, accuracy: float | None) -> None:
    curves = history()
    if accuracy is None:
        curves = History(points=20)
        for step in range(1, 101):
            curves.add_minibatch(minibatch(step, accuracy=None), 2)
    draw_curves(curves, tmp_path / "curves.png", "a run")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_of_one_minibatch_has_curves_too(tmp_path: Path) -> None:
    short = History()
    short.add_minibatch(minibatch(1, steps=1), 1)
    draw_curves(short, tmp_path / "curves.png", "short")
    draw_curves(History(), tmp_path / "empty.png", "empty")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_tensorboard_events_are_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = TensorBoardLog(tmp_path)
    log.start(Position())
    log.minibatch(minibatch(1))
    log.validation(validation(1))
    log.close()
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert accumulator.Scalars("objective/train")[0].value == -1.0
    assert accumulator.Scalars("accuracy/valid")[0].value == 0.75


def test_tensorboard_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "tensorboard_is_installed", lambda: False)
    with pytest.raises(NnetError, match="pip install tensorboard"):
        TensorBoardLog(tmp_path)
