"""Several outputs, each with its objective and targets, trained at once as nnet3-train does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnet.data.example_minibatch import example_minibatch
from nnet.data.examples import ExampleWriter, read_examples
from nnet.data.minibatch import Minibatch
from nnet.errors import NnetError
from nnet.graph.build import build_network
from nnet.modelfile.examples import Example, NnetIo
from nnet.modelfile.general_matrix import FullMatrix
from nnet.modelfile.model import Model, read_model
from nnet.runtime.compiled import compile_network
from nnet.text.parse import parse_xconfig
from nnet.training.evaluation import evaluate_network, in_test_mode
from nnet.training.feeds.tables import Archives
from nnet.training.objectives import OutputObjectives, Score, loss
from nnet.training.options import TrainingOptions
from nnet.training.session import train
from nnet.training.tallies import Tally, added, overall, tallies
from nnet.training.trainer import Trainer
from nnet.xconfig.expansion import expand
from tests.training.kaldi_training import GOLDEN, Log

FRAME_LEVEL = GOLDEN / "training/frame_level"
MERGED = f"ark:{FRAME_LEVEL}/egs.ark"
UNMERGED = f"ark:{FRAME_LEVEL}/egs_compressed_unmerged.ark"
XCONFIG = """
input dim=13 name=input
relu-batchnorm-layer name=tdnn1 dim=16 input=Append(-1,0,1)
relu-batchnorm-layer name=tdnn2 dim=16 input=Append(-3,0,3)
output-layer name=output input=tdnn2 dim=9
output-layer name=features input=tdnn2 dim=4 objective-type=quadratic include-log-softmax=false
"""


def two_outputs() -> Model:
    file = expand(parse_xconfig(XCONFIG)).final
    return Model(build_network(file, rng=np.random.default_rng(3)))


def first_features(example: Example) -> NnetIo:
    """The first four features at the frames of `output`."""
    features, output = example.io
    times = {tuple(index): row for row, index in enumerate(features.indexes.tolist())}
    rows = [times[tuple(index)] for index in output.indexes.tolist()]
    return NnetIo("features", output.indexes, FullMatrix(features.features.dense()[rows, :4]))


def both(examples: Iterable[tuple[str, Example]]) -> Iterator[tuple[str, Example]]:
    for key, example in examples:
        yield key, Example((*example.io, first_features(example)))


def in_turns(examples: Iterable[tuple[str, Example]]) -> Iterator[tuple[str, Example]]:
    """Examples that have one of the outputs, as in multilingual training."""
    for number, (key, example) in enumerate(examples):
        second = first_features(example)
        yield key, Example((example.io[0], second)) if number % 2 else example


def write(path: Path, examples: Iterable[tuple[str, Example]]) -> str:
    with ExampleWriter(f"ark:{path}") as writer:
        for key, example in examples:
            writer.write(key, example)
    return f"ark:{path}"


def minibatch(model: Model) -> Minibatch:
    _, example = next(both(read_examples(MERGED)))
    return example_minibatch(example, model.network)


def gradients(model: Model, regularizer: dict[str, float]) -> dict[str, torch.Tensor]:
    """By parameter; outputs that have no entry do not count."""
    module = compile_network(model).train()
    batch = minibatch(model)
    scores = OutputObjectives.of(model.network)(module(batch.inputs, batch.request), batch)
    chosen = {
        name: Score(scores[name].total, scores[name].weight, regularizer=factor)
        for name, factor in regularizer.items()
    }
    loss(chosen).backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in module.named_parameters()
    }


def test_the_loss_is_minus_the_sum_of_all_that_is_trained() -> None:
    model = two_outputs()
    together = gradients(model, {"output": 1.0, "features": 0.25})
    alone = [gradients(model, {name: 1.0}) for name in ("output", "features")]
    for name, gradient in together.items():
        expected = alone[0][name] + 0.25 * alone[1][name]
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_an_auxiliary_term_is_trained_and_a_regularizer_does_not_count_in_the_whole() -> None:
    main = Score(torch.tensor(-3.0), torch.tensor(2.0), auxiliary=torch.tensor(-0.5))
    beside = Score(torch.tensor(-8.0), torch.tensor(2.0), torch.tensor(1.0), regularizer=0.1)
    scores = {"output": main, "output-xent": beside}
    assert loss(scores).item() == pytest.approx(3.0 + 0.5 + 0.8)
    sums = tallies(scores)
    assert sums["output"] == Tally(-3.0, 2.0, None, -0.5)
    assert sums["output-xent"].accuracy == 0.5
    twice = added(sums, sums)
    assert overall(twice) == Tally(-6.0, 4.0, None, -1.0)
    assert overall(twice).objective == -1.5


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "train.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def run(folder: Path, egs: str, valid: str | None, resume: bool = False, **more: Any) -> Path:
    given = {"num_epochs": 3, "initial_effective_lrate": 0.01, "print_interval": 4} | more
    options = TrainingOptions(optimizer="natural-gradient", tensorboard=False, **given)
    archives = Archives((egs,), valid, "16,1:8", egs_buffer_size=50)
    return train(two_outputs(), folder, archives, options, resume)


@pytest.mark.parametrize("arranged", [both, in_turns])
def test_a_run_trains_all_outputs_that_the_examples_have(arranged: Any, tmp_path: Path) -> None:
    egs = write(tmp_path / "egs.ark", arranged(read_examples(UNMERGED)))
    valid = write(tmp_path / "valid.ark", both(read_examples(MERGED)))
    final = run(tmp_path / "out", egs, valid)
    found = [event["outputs"] for event in events(tmp_path / "out", "validation")]
    for name, least in (("output", -2.0), ("features", -1.9)):
        assert found[0][name]["objective"] < found[-1][name]["objective"]
        assert found[-1][name]["objective"] > least
    network = read_model(final).network
    minibatches = [example_minibatch(eg, network) for _, eg in both(read_examples(MERGED))]
    evaluation = evaluate_network(in_test_mode(network), minibatches)
    for name, tally in evaluation.objectives.items():
        assert tally.objective == pytest.approx(found[-1][name]["objective"], rel=1e-3)
    first = events(tmp_path / "out", "minibatch")[0]["outputs"]
    assert set(first) == ({"output", "features"} if arranged is both else set(list(first)[:1]))


def test_a_killed_and_resumed_run_leaves_the_same_lines_for_each_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    egs = write(tmp_path / "egs.ark", in_turns(read_examples(UNMERGED)))
    run(tmp_path / "whole", egs, None, checkpoint_every=3)
    train_on = Trainer._train_on

    def limited(self: Trainer, *arguments: Any) -> None:
        if self.position.step == 10:
            raise KeyboardInterrupt
        train_on(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_on", limited)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts", egs, None, checkpoint_every=3)
    run(tmp_path / "parts", egs, None, checkpoint_every=3, resume=True)
    whole, parts = (words(tmp_path / name / "train.log") for name in ("whole", "parts"))
    assert [text for text, _ in parts] == [text for text, _ in whole]
    for (_, mine), (_, theirs) in zip(parts, whole, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)
    texts = " ".join(text for text, _ in whole)
    assert "for 'features' using" in texts
    assert "Overall average objective function for 'output' is" in texts


def words(path: Path) -> list[tuple[str, list[float]]]:
    """The lines of a log without their numbers, and the numbers."""
    number = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
    lines = path.read_text().splitlines()
    return [(number.sub("#", line), [float(n) for n in number.findall(line)]) for line in lines]


def test_a_run_over_kaldis_examples_writes_kaldis_lines(tmp_path: Path) -> None:
    model = read_model(FRAME_LEVEL / "plain/init.raw")
    last: Any = model.network.components["output.affine"]
    last.learning_rate_factor = 1.0  # the rates in the file are meant as they are
    options = TrainingOptions(
        optimizer="natural-gradient",
        num_epochs=1,
        initial_effective_lrate=0.005,
        final_effective_lrate=0.005,
        print_interval=1,
        tensorboard=False,
    )
    train(model, tmp_path / "out", Archives((MERGED,), None, egs_buffer_size=1), options)
    theirs = Log.of(FRAME_LEVEL / "plain/train.log")
    ours = Log.of(tmp_path / "out/train.log")
    np.testing.assert_allclose(ours.objectives, theirs.objectives, rtol=1e-4)
    overall = r"LOG .* Overall average objective function for 'output' is (\S+) over (\S+) frames"
    found = [
        re.search(overall, path.read_text()).groups()
        for path in (tmp_path / "out/train.log", FRAME_LEVEL / "plain/train.log")
    ]
    np.testing.assert_allclose(*np.array(found, float), rtol=1e-5)


def test_targets_for_each_frame_are_asked_for_where_an_objective_needs_them() -> None:
    class Other:
        def each(self, change: Any) -> Other:
            return self

    batch = minibatch(two_outputs())
    wrong = Minibatch(batch.request, batch.inputs, {"output": Other()}, batch.sequences)
    with pytest.raises(NnetError, match="the supervision of 'output' is no target for each frame"):
        OutputObjectives({"output": "linear"})({"output": torch.zeros(5, 8, 9)}, wrong)
