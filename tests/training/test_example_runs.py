"""`nnet train --egs`: from archives of examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nnet.data.example_set import ExampleSet
from nnet.data.examples import ExampleWriter, read_examples
from nnet.data.merging import MergingRules, joined
from nnet.errors import NnetError
from nnet.modelfile.model import Model, read_model
from nnet.training.feeds.tables import Archives
from nnet.training.options import TrainingOptions
from nnet.training.session import train
from nnet.training.trainer import Trainer

GOLDEN = Path(__file__).parents[1] / "golden/training/frame_level"
UNMERGED = f"ark:{GOLDEN}/egs_compressed_unmerged.ark"
MERGED = f"ark:{GOLDEN}/egs.ark"


def model() -> Model:
    return read_model(GOLDEN / "plain/init.raw")


def run(folder: Path, *, resume: bool = False, **options: Any) -> Path:
    chosen = TrainingOptions(
        **({"optimizer": "natural-gradient", "num_epochs": 2, "tensorboard": False} | options)
    )
    data = Archives((UNMERGED,), MERGED, egs_minibatch_size="16,1:8", egs_buffer_size=50)
    return train(model(), folder, data, chosen, resume)


def validations(final: Path) -> list[float]:
    lines = map(json.loads, (final.parent / "train.jsonl").read_text().splitlines())
    return [event["objective"] for event in lines if event["event"] == "validation"]


def test_a_run_from_examples_learns(tmp_path: Path) -> None:
    final = run(tmp_path / "out", num_epochs=4, initial_effective_lrate=0.01)
    found = validations(final)
    assert found == sorted(found)
    assert found[-1] > -1.3


def test_a_run_from_examples_is_resumed_bit_by_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", checkpoint_every=3)
    train_on, calls = Trainer._train_on, 0

    def limited(self: Trainer, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 13:
            raise KeyboardInterrupt
        train_on(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_on", limited)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts", checkpoint_every=3)
    assert run(tmp_path / "parts", resume=True, checkpoint_every=3).read_bytes() == (
        whole.read_bytes()
    )


def test_an_epoch_has_the_same_minibatches_in_any_order() -> None:
    examples = ExampleSet((UNMERGED, UNMERGED), MergingRules.parse("16,1:8"), 40, seed=1)
    assert len(examples) == 264 // 16 + 1
    epochs = [[joined(group) for group in examples.groups(epoch)] for epoch in (None, 0, 1, 0)]
    assert {len(epoch) for epoch in epochs} == {len(examples)}
    content = [[eg.io[0].features.dense().tobytes() for eg in epoch] for epoch in epochs]
    assert content[1] == content[3] != content[2]


def test_merged_examples_are_taken_as_they_are() -> None:
    examples = ExampleSet((MERGED,), MergingRules.parse("128"), 10, seed=1)
    assert len(examples) == 26
    wanted = [eg.structure for _, eg in read_examples(MERGED)]
    assert [joined(group).structure for group in examples.groups(None)] == wanted


def test_examples_that_cannot_be_used_are_explained(tmp_path: Path) -> None:
    with pytest.raises(NnetError, match="read once an epoch; expected: files"):
        ExampleSet(("ark:-",), MergingRules.parse("4"), 10, 0)
    with pytest.raises(NnetError, match="no 132 examples make a minibatch"):
        len(ExampleSet((UNMERGED,), MergingRules.parse("500"), 10, 0))
    with ExampleWriter(f"ark:{tmp_path}/none.ark"):
        pass
    with pytest.raises(NnetError, match="there are no examples"):
        len(ExampleSet((f"ark:{tmp_path}/none.ark",), MergingRules.parse("4"), 10, 0))


def test_processes_that_make_minibatches_do_not_change_the_result(tmp_path: Path) -> None:
    whole = run(tmp_path / "thread")
    assert run(tmp_path / "two", num_workers=2).read_bytes() == whole.read_bytes()
