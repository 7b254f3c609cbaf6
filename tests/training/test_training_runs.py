"""Whole runs: they learn, repeat exactly, resume exactly, and end cleanly when they must."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnet.data.minibatch import Minibatch
from nnet.data.tables import read_matrices
from nnet.data.writers import MatrixWriter, VectorWriter
from nnet.errors import NnetError
from nnet.modelfile.model import Model, read_model
from nnet.training.feeds.tables import Tables
from nnet.training.objectives import Scores
from nnet.training.scoring import Scorer
from nnet.training.trainer import Trainer

Run = Callable[..., Path]
Variant = Callable[[str, str], Model]


def events(final: Path, kind: str) -> list[dict[str, Any]]:
    lines = (final.parent / "train.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def stop_after(monkeypatch: pytest.MonkeyPatch, minibatches: int) -> None:
    """Makes a run die after so many minibatches, as a kill would, until undone."""
    train_on = Trainer._train_on

    def limited(self: Trainer, *arguments: Any) -> None:
        if self.position.step == minibatches:
            raise KeyboardInterrupt
        train_on(self, *arguments)

    monkeypatch.setattr(Trainer, "_train_on", limited)


def test_a_run_learns_and_leaves_its_files(run: Run) -> None:
    final = run("out", num_epochs=6, initial_effective_lrate=0.01)
    assert final.name == "final.raw"
    last = events(final, "validation")[-1]
    assert last["accuracy"] > 0.8
    assert last["objective"] > -0.8
    names = {path.name for path in final.parent.iterdir()}
    assert names == {"final.raw", "checkpoints", "train.jsonl", "train.log", "curves.png"}
    assert len(list((final.parent / "checkpoints").iterdir())) == 3


def test_natural_gradient_learns_with_its_defaults(run: Run) -> None:
    final = run("out", num_epochs=6, optimizer="natural-gradient", dropout_schedule="0,0.2,0")
    assert events(final, "validation")[-1]["accuracy"] > 0.8
    relu = read_model(final).network.components["tdnn1.relu"]
    assert relu.nonlinearity_count > 0
    assert relu.oderiv_rms.shape == (16,)


def test_natural_gradient_passes_over_a_minibatch_that_is_not_finite(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Scorer.__call__

    def broken(self: Scorer, minibatch: Minibatch) -> Scores:
        scores = whole(self, minibatch)
        broken.calls += 1
        factor = float("nan") if broken.calls in bad else 1.0
        return {n: replace(score, total=score.total * factor) for n, score in scores.items()}

    broken.calls, bad = 0, {5}
    monkeypatch.setattr(Scorer, "__call__", broken)
    final = run("out", optimizer="natural-gradient", valid_share=0.0)
    assert "this minibatch is skipped: training stopped at minibatch 5" in caplog.text
    assert len(events(final, "minibatch")) > 20
    broken.calls, bad = 0, set(range(5, 100))
    with pytest.raises(NnetError, match="the objective of 'output' is nan"):
        run("again", optimizer="natural-gradient", valid_share=0.0)


def test_the_final_model_is_kaldis_with_batch_norm_statistics(run: Run) -> None:
    network = read_model(run("out")).network
    statistics = network.components["tdnn1.batchnorm"]
    assert statistics.count > 1000
    assert statistics.stats_mean.shape == (16,)
    assert (statistics.stats_var > 0).all()


def test_the_final_model_scores_as_the_last_validation_says(run: Run, tables: Tables) -> None:
    from nnet.data.tables import read_table
    from nnet.data.targets import read_target
    from nnet.runtime.compiled import compile_network

    data = replace(tables, valid_feats=tables.feats, valid_targets=tables.targets)
    final = run("out", data=data)
    module = compile_network(read_model(final).network, test_mode=True)
    targets = dict(read_table(tables.targets, read_target))
    right = frames = 0
    for name, features in read_matrices(tables.feats):
        with torch.no_grad():
            output = module({"input": torch.tensor(features[None])})["output"][0]
        right += int((output.argmax(-1).numpy() == targets[name]).sum())
        frames += len(features)
    assert right / frames == pytest.approx(events(final, "validation")[-1]["accuracy"], abs=1e-3)


def test_the_same_seed_gives_the_same_bytes(run: Run) -> None:
    first, second, other = run("a"), run("b"), run("c", seed=1)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() != other.read_bytes()


@pytest.mark.parametrize(
    "optimizer",
    [
        {"optimizer": "adamw"},
        {"optimizer": "sgd"},
        {"optimizer": "natural-gradient", "dropout_schedule": "0,0.3@0.4,0"},
        {"optimizer": "natural-gradient", "backstitch_training_scale": 0.3},
    ],
    ids=["adamw", "sgd", "natural-gradient", "backstitch"],
)
@pytest.mark.parametrize(("minibatches", "every"), [(7, 3), (12, 0), (20, 4)])
def test_a_resumed_run_ends_with_the_same_bytes(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: dict[str, Any],
    minibatches: int,
    every: int,
) -> None:
    options = {**optimizer, "checkpoint_every": every}
    whole = run("whole", **options)
    with monkeypatch.context() as patch:
        stop_after(patch, minibatches)
        with pytest.raises(KeyboardInterrupt):
            run("parts", **options)
    resumed = run("parts", resume=True, **options)
    assert resumed.read_bytes() == whole.read_bytes()
    steps = [event["step"] for event in events(resumed, "minibatch")]
    assert steps == [event["step"] for event in events(whole, "minibatch")]
    objectives = [event["objective"] for event in events(resumed, "minibatch")]
    assert objectives == [event["objective"] for event in events(whole, "minibatch")]
    assert len(events(resumed, "validation")) == len(events(whole, "validation"))


def test_a_finished_run_can_be_resumed_without_harm(run: Run) -> None:
    before = run("out").read_bytes()
    assert run("out", resume=True).read_bytes() == before


def test_resuming_nothing_starts_from_the_beginning(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    assert run("a", resume=True).read_bytes() == run("b").read_bytes()
    assert "training starts from the beginning" in caplog.text


def test_another_run_cannot_be_resumed(
    run: Run, variant: Variant, tables: Tables, tmp_path: Path
) -> None:
    run("out")
    with pytest.raises(NnetError) as caught:
        run("out", resume=True, seed=3, minibatch_size=8)
    message = str(caught.value)
    assert "options: seed was 0, is 3" in message
    assert "options: minibatch_size was 4, is 8" in message
    with MatrixWriter(f"ark:{tmp_path}/louder.ark") as writer:
        for name, features in read_matrices(tables.feats):
            writer.write(name, 2 * features)
    with pytest.raises(NnetError, match="training data: checksum of features was"):
        run("out", resume=True, data=replace(tables, feats=f"ark:{tmp_path}/louder.ark"))
    with pytest.raises(NnetError, match="network was"):
        run("out", resume=True, model=variant("dim=16", "dim=12"))


def test_a_folder_with_a_run_is_not_overwritten(run: Run) -> None:
    run("out")
    with pytest.raises(NnetError, match="holds the results of an earlier run"):
        run("out")


def test_options_that_do_not_decide_the_result_may_change(run: Run) -> None:
    before = run("out").read_bytes()
    again = run("out", resume=True, keep_checkpoints=1, checkpoint_every=2, num_threads=1)
    assert again.read_bytes() == before


@pytest.mark.parametrize("where", ["start", "middle"])
def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_utterances(
    run: Run, variant: Variant, where: str
) -> None:
    model = variant("", "")
    options: dict[str, Any] = {"optimizer": "sgd", "max_grad_norm": 0.0}
    if where == "start":
        model.network.components["tdnn1.affine"].linear[:] = np.inf
    else:
        options["initial_effective_lrate"] = 1e30
    with pytest.raises(NnetError) as caught:
        run("out", model=model, **options)
    message = str(caught.value)
    assert "training stopped at minibatch " in message
    assert "(epoch 1): the " in message
    assert "utterances of the minibatch: utt" in message
    assert "lower --initial-effective-lrate" in message


def test_validation_tables_and_validation_within_epochs(run: Run, tables: Tables) -> None:
    data = replace(tables, valid_feats=tables.feats, valid_targets=tables.targets)
    validations = events(run("out", data=data, valid_every=5), "validation")
    assert [round(event["epochs"], 2) for event in validations] == sorted(
        {round(event["epochs"], 2) for event in validations}
    )
    assert len(validations) > 4
    assert {event["frames"] for event in validations} == {
        float(sum(len(features) for _, features in read_matrices(tables.feats)))
    }


def test_a_run_without_validation(run: Run) -> None:
    final = run("out", valid_share=0.0)
    assert events(final, "validation") == []
    assert events(final, "minibatch")


def test_ivectors_go_into_the_network(
    run: Run, variant: Variant, tables: Tables, tmp_path: Path
) -> None:
    model = variant(
        "input dim=6 name=input\nrelu-batchnorm-dropout-layer name=tdnn1 dim=16 "
        "dropout-proportion=0.1 input=Append(-1,0,1)",
        "input dim=2 name=ivector\ninput dim=6 name=input\nrelu-batchnorm-layer name=tdnn1 dim=16 "
        "input=Append(-1,0,1,ReplaceIndex(ivector, t, 0))",
    )
    with pytest.raises(NnetError, match="an input 'ivector' of dim 2, but no i-vectors"):
        run("no", model=model)
    with VectorWriter(f"ark:{tmp_path}/iv.ark") as writer:
        for name, features in read_matrices(tables.feats):
            writer.write(name, features.mean(0)[:2])
    data = replace(tables, ivectors=f"ark:{tmp_path}/iv.ark")
    assert events(run("out", model=model, data=data), "minibatch")
    with pytest.raises(NnetError, match="the network has no input named 'ivector'"):
        run("no2", data=data)


def test_a_quadratic_output_learns_matrices(run: Run, variant: Variant, tables: Tables) -> None:
    model = variant("dim=4", "dim=6 objective-type=quadratic include-log-softmax=false")
    data = replace(tables, targets=tables.feats)
    final = run("out", model=model, data=data, num_epochs=4)
    objectives = [event["objective"] for event in events(final, "validation")]
    assert objectives[-1] > objectives[0]
    assert events(final, "validation")[-1]["accuracy"] is None


def test_frame_subsampling(run: Run) -> None:
    final = run("out", frame_subsampling_factor=3, chunk_width=(31, 20))
    total = events(final, "validation")[-1]["frames"]
    assert 30 < total < 100  # a tenth of 1200 frames, every third of them


def test_bf16_keeps_float32_parameters(run: Run) -> None:
    final = run("out", bf16=True, num_epochs=4)
    assert events(final, "validation")[-1]["accuracy"] > 0.6


def test_streaming_from_little_memory_trains_as_well(run: Run, tables: Tables) -> None:
    final = run("out", data=replace(tables, memory=1e-5), num_epochs=6)
    assert events(final, "validation")[-1]["accuracy"] > 0.7


def test_a_linear_objective_without_log_softmax_is_warned_of(
    run: Run, variant: Variant, caplog: pytest.LogCaptureFixture
) -> None:
    run("out", model=variant("dim=4", "dim=4 include-log-softmax=false"))
    assert "is no log-softmax" in caplog.text


def test_wrong_dimensions_give_one_error_with_both(run: Run, variant: Variant) -> None:
    with pytest.raises(NnetError, match=r"dimension 6\nexpected: 40, the dim of the network's"):
        run("a", model=variant("dim=6", "dim=40"))
    with pytest.raises(NnetError, match="0 to 2, because the network's output has dimension 3"):
        run("b", model=variant("name=output dim=4", "name=output dim=3"))


def test_a_folder_that_cannot_be_made_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NnetError, match="file/out: cannot make this folder: Not a directory"):
        run("file/out")


def test_processes_that_make_minibatches_do_not_change_the_result(
    run: Run, monkeypatch: pytest.MonkeyPatch, tables: Tables
) -> None:
    streamed = replace(tables, memory=1e-5)
    whole = run("thread", checkpoint_every=3, data=streamed)
    assert run("two", num_workers=2, data=streamed).read_bytes() == whole.read_bytes()
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            run("parts", num_workers=1, checkpoint_every=3, data=streamed)
    resumed = run("parts", num_workers=2, checkpoint_every=3, resume=True, data=streamed)
    assert resumed.read_bytes() == whole.read_bytes()
