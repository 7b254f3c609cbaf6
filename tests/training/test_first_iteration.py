"""The first iteration of the recipe, with halved minibatches and a smaller limit of the change."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from nnet.data.example_set import ExampleSet
from nnet.data.merging import MergingRules
from nnet.errors import NnetError
from nnet.modelfile.model import read_model
from nnet.runtime.compiled import compile_network
from nnet.training.distribution import take_best
from nnet.training.feeds.examples import ExampleFeed
from nnet.training.natural_gradient.max_change import MaxChange
from nnet.training.options import TrainingOptions
from tests.training.kaldi_training import GOLDEN
from tests.training.test_distribution import in_two_processes, network
from tests.training.test_training_runs import events, stop_after

Run = Callable[..., Path]
OPTIONS = {"optimizer": "natural-gradient", "num_epochs": 2, "first_iter_minibatches": 3}


def test_minibatches_are_halved_and_max_change_is_divided_by_the_root_of_2(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []
    plain = MaxChange.of

    def noted(*arguments: Any) -> MaxChange:
        limits.append(arguments[3])
        return plain(*arguments)

    monkeypatch.setattr(MaxChange, "of", staticmethod(noted))
    whole = events(run("whole", **OPTIONS | {"first_iter_minibatches": 0}), "minibatch")
    limits.clear()
    halved = events(run("halved", **OPTIONS), "minibatch")
    weights, wanted = ([event["weight"] for event in found] for found in (halved, whole))
    pairs = [sum(weights[i : i + 2]) for i in range(0, 6, 2)]
    assert pairs == wanted[:3]
    assert max(weights[:6]) <= math.ceil(max(wanted[:3]) / 2)
    assert weights[6:] == wanted[3:]
    np.testing.assert_allclose(limits[:6], 2.0 / math.sqrt(2))
    assert set(limits[6:]) == {2.0}


def test_a_run_is_resumed_in_its_first_iteration(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run("whole", **OPTIONS)
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            run("parts", checkpoint_every=1, **OPTIONS)
    assert run("parts", resume=True, **OPTIONS).read_bytes() == whole.read_bytes()


def test_examples_of_a_minibatch_are_all_in_one_of_its_halves() -> None:
    folder = GOLDEN / "training/frame_level"
    net = read_model(folder / "plain/init.raw").network
    egs = f"ark:{folder}/egs_compressed_unmerged.ark"
    data = ExampleSet([egs], MergingRules.parse("7,1:4"), 100, seed=3)
    feed = ExampleFeed(data, net, torch.device("cpu"))
    slots = feed.epoch(0)[:3]

    def inputs(chosen: list[Any]) -> list[torch.Tensor]:
        with feed.minibatches(chosen) as minibatches:
            return [minibatch.inputs["input"] for minibatch in minibatches]

    halves = inputs([half for slot in slots for half in feed.halves(slot)])
    for number, whole in enumerate(inputs(slots)):
        first, second = halves[2 * number : 2 * number + 2]
        assert torch.equal(first, whole[::2])
        assert torch.equal(second, whole[1::2])


def take(rank: int, folder: str, objectives: tuple[float, float]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    module = compile_network(network(norm=True)).train()
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.fill_(rank + 1.0)
    take_best(module, objectives[rank])
    kept = {float(x) for t in (*module.parameters(), *module.buffers()) for x in t.flatten()}
    (Path(folder) / f"{rank}").write_text(" ".join(map(str, kept)))
    dist.destroy_process_group()


@pytest.mark.parametrize(("objectives", "best"), [((-2.0, -1.0), 1), ((-2.0, math.nan), 0)])
def test_all_processes_go_on_from_the_best_one(
    objectives: tuple[float, float], best: int, tmp_path: Path
) -> None:
    in_two_processes(take, str(tmp_path), objectives)
    for rank in range(2):
        assert (tmp_path / f"{rank}").read_text() == f"{best + 1.0}"


def test_steps_that_are_recorded_have_no_such_iteration() -> None:
    with pytest.raises(NnetError, match="--cuda-graph is given with --first-iter-minibatches"):
        TrainingOptions(optimizer="natural-gradient", cuda_graph=True, first_iter_minibatches=1)
