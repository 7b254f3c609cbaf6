"""Averages of the last checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from nnet.modelfile.model import read_model
from nnet.training.checkpoints.average import combine_checkpoints
from nnet.training.checkpoints.checkpoint import checkpoint_path, write_checkpoint


@pytest.mark.parametrize(("wanted", "count"), [(4.0, 1), (3.1, 2), (0.0, 3)])
def test_as_many_checkpoints_are_averaged_as_are_best(
    wanted: float, count: int, tmp_path: Path
) -> None:
    module = nn.Linear(1, 1, bias=False)
    paths = []
    for step, value in enumerate((-3.0, 2.0, 4.0)):
        nn.init.constant_(module.weight, value)
        paths.insert(0, checkpoint_path(tmp_path, step))
        write_checkpoint(paths[0], {"module": module.state_dict()})
    found = combine_checkpoints(module, paths, lambda: -abs(module.weight.item() - wanted))
    assert found == count
    average = {1: 4.0, 2: 3.0, 3: 1.0}[count]
    torch.testing.assert_close(module.weight, torch.full((1, 1), average))


def test_a_run_ends_with_the_best_average(run: Callable[..., Path]) -> None:
    rates = {"initial_effective_lrate": 4.0, "final_effective_lrate": 4.0}  # it never settles
    options = {"num_epochs": 6, "keep_checkpoints": 4, "optimizer": "sgd", **rates}
    finals = [run("last", **options), run("best", **options, max_models_combine=4)]
    objectives = []
    for final in finals:
        events = map(json.loads, (final.parent / "train.jsonl").read_text().splitlines())
        objectives.append([e["objective"] for e in events if e["event"] == "validation"][-1])
    assert objectives[1] >= objectives[0] - 0.02  # batch-norm statistics are estimated anew
    last, best = (read_model(final).network.components["tdnn1.affine"] for final in finals)
    assert (last.linear != best.linear).any()


def test_a_combined_run_is_resumed_to_the_same_end(run: Callable[..., Path]) -> None:
    options = {"num_epochs": 3, "keep_checkpoints": 3, "max_models_combine": 3}
    before = run("out", **options).read_bytes()
    assert run("out", resume=True, **options).read_bytes() == before
