"""Steps that are recorded once and repeated on the same memory train as those that are taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnet.data.minibatch import Minibatch, SparseTargets
from nnet.errors import NnetError
from nnet.graph.build import build_network
from nnet.graph.network import Network
from nnet.kernels.affine import spliced as spliced_affine
from nnet.passes.pipeline import pipeline
from nnet.runtime.batch_norm import ReluBatchNorm
from nnet.runtime.compiled import CompiledNetwork, compile_network
from nnet.text.parse import parse_config
from nnet.training import recorded_step, trainer
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD
from nnet.training.objectives import OutputObjectives, Scores
from nnet.training.optimizers import set_learning_rate
from nnet.training.options import TrainingOptions
from nnet.training.recorded_step import RecordedStep, Recorder, recorded
from nnet.training.scoring import Scorer
from nnet.training.steps import Launched, NaturalStep, Outcome, Step
from nnet.training.tallies import ScoreNumbers
from tests.training.tape import TapeRecorder

CONFIG = """
input-node name=input dim=5
component name=a type=NaturalGradientAffineComponent input-dim=15 output-dim=8 learning-rate=0.01 \
max-change=0.75 l2-regularize=0.002
component-node name=a component=a input=Append(Offset(input,-1), input, Offset(input,1))
component name=relu type=RectifiedLinearComponent dim=8 self-repair-scale=0.02
component-node name=relu component=relu input=a
component name=bn type=BatchNormComponent dim=8
component-node name=bn component=bn input=relu
component name=drop type=GeneralDropoutComponent dim=8 dropout-proportion=0.1 continuous=true
component-node name=drop component=drop input=bn
component name=lin type=LinearComponent input-dim=8 output-dim=6 orthonormal-constraint=-1.0
component-node name=lin component=lin input=drop
component name=tanh type=TanhComponent dim=6 self-repair-scale=0.01
component-node name=tanh component=tanh input=Sum(lin, Scale(0.5, Offset(lin, 1)))
component name=out type=TdnnComponent input-dim=6 output-dim=4 time-offsets=-1,0,1
component-node name=out component=out input=tanh
component name=sm type=LogSoftmaxComponent dim=4
component-node name=sm component=sm input=out
output-node name=output input=sm
"""


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what there is on a CPU alone, of which the tape sees nothing."""
    monkeypatch.setattr(ReluBatchNorm, "_in_blocks", lambda *_: False)
    monkeypatch.setattr(spliced_affine, "_is_spread", lambda *_: False)


def network(config: str = CONFIG) -> Network:
    return build_network(parse_config(config), rng=np.random.default_rng(1))


def minibatches(module: CompiledNetwork, count: int) -> Iterator[Minibatch]:
    """Of two shapes; one is not finite."""
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        frames, sequences = (12, 6) if number % 3 else (8, 4)
        request = module.chunk_request(frames)
        rows = dict(request.inputs)["input"].count
        features = torch.randn(sequences, rows, 5, generator=generator)
        features[0, 5] = np.nan if number == 33 else features[0, 5]
        ids = torch.randint(0, 4, (sequences, frames, 1), generator=generator)
        targets = SparseTargets(ids, torch.ones(ids.shape))
        yield Minibatch(request, {"input": features}, {"output": targets}, sequences)


def trained(
    kernels: str, recorder: TapeRecorder, steps: int = 45, **options: float
) -> tuple[list[Outcome], CompiledNetwork, NaturalGradientSGD]:
    """Steps with learning rates and dropout proportions that change each time."""
    torch.manual_seed(0)
    given = network()
    passes = pipeline(test_mode=False, fused=True, log_likelihoods=("output",))
    module = compile_network(given, kernels=kernels, passes=passes).train()
    module.zero_stats()
    optimizer = NaturalGradientSGD(
        module,
        implementation=kernels,
        batchnorm_stats_scale=0.9,
        **options,
    )
    step = recorded(NaturalStep(Scorer(module, OutputObjectives.of(given)), optimizer), recorder)
    outcomes = []
    for number, minibatch in enumerate(minibatches(module, steps)):
        set_learning_rate(optimizer, 0.02 * 0.95**number)
        module.set_dropout_proportion(0.01 * (number % 7) + (0.0 if number > 40 else 0.05))
        outcomes.append(step(minibatch).outcome())
    return outcomes, module, optimizer


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_recorded_steps_train_as_others(momentum: float, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = TapeRecorder(strict=True)
    found, module, optimizer = trained("reference", tape, momentum=momentum)
    assert tape.recorded >= 4
    assert tape.repeated >= 20
    monkeypatch.setattr(recorded_step, "WARM_UP", 1000)
    plain = TapeRecorder(strict=False)
    expected, other, plainly = trained("reference", plain, momentum=momentum)
    assert plain.recorded == 0
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert ours.applied == theirs.applied == (number != 33)
        if ours.applied:
            assert ours.norm == pytest.approx(theirs.norm, rel=1e-3)
            assert ours.tallies["output"].total == pytest.approx(
                theirs.tallies["output"].total, rel=1e-4
            )
            assert ours.tallies["output"].correct == theirs.tallies["output"].correct
    for name, value in other.state_dict().items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(module.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    ours, theirs = (m.to_network().components["relu"] for m in (module, other))
    assert ours.nonlinearity_count == theirs.nonlinearity_count
    assert ours.num_dims_self_repaired == theirs.num_dims_self_repaired > 0
    assert ours.num_dims_processed == theirs.num_dims_processed
    assert optimizer.minibatches == plainly.minibatches == 45
    assert optimizer.max_change_stats.report() == plainly.max_change_stats.report()


def test_recorded_steps_of_our_kernels_train_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without natural gradient, whose eigenvalues take the interpreter long."""
    monkeypatch.setattr(recorded_step, "WARM_UP", 1)
    monkeypatch.setattr(recorded_step, "chance", lambda: 0.3)
    options = {"natural_gradient": False, "max_param_change": 0.1}
    tape = TapeRecorder(strict=False)
    _, module, _ = trained("triton", tape, 9, **options)
    assert tape.repeated >= 3
    monkeypatch.setattr(recorded_step, "WARM_UP", 1000)
    _, other, _ = trained("reference", TapeRecorder(strict=True), 9, **options)
    for name, parameter in other.named_parameters():
        torch.testing.assert_close(module.get_parameter(name), parameter, rtol=1e-3, atol=1e-4)


def test_more_kinds_than_are_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorded_step, "MOST_RECORDED", 1)
    tape = TapeRecorder(strict=True)
    outcomes, _, _ = trained("reference", tape, 25)
    assert tape.recorded == 1
    assert "more than 1 kinds of minibatches" in caplog.text
    assert all(outcome.applied for outcome in outcomes)


def naturally(given: Network) -> NaturalStep:
    module = compile_network(given).train()
    return NaturalStep(Scorer(module, OutputObjectives.of(given)), NaturalGradientSGD(module))


def test_what_cannot_be_recorded() -> None:
    with pytest.raises(NnetError, match=r"--cuda-graph needs --device cuda, found --device cpu"):
        recorded(naturally(network()))
    mask = "component name=drop type=SpecAugmentTimeMaskComponent dim=8 zeroed-proportion=0.2"
    masked = CONFIG.replace(CONFIG[CONFIG.index("component name=drop") :].splitlines()[0], mask)
    with pytest.raises(NnetError, match="the network has component 'drop', where the host"):
        recorded(naturally(network(masked)), TapeRecorder(strict=True))
    loop = CONFIG.replace("Scale(0.5, Offset(lin, 1))", "IfDefined(Offset(tanh, -1))")
    with pytest.raises(NnetError, match="the network has a recurrence, where the host decides"):
        recorded(naturally(network(loop)), TapeRecorder(strict=True))


def test_a_step_where_the_host_looks_at_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    score = OutputObjectives.__call__

    def looking(self: OutputObjectives, outputs: Any, minibatch: Minibatch) -> Scores:
        scores = score(self, outputs, minibatch)
        scores["output"].total.item()
        return scores

    monkeypatch.setattr(OutputObjectives, "__call__", looking)
    with pytest.raises(NnetError, match=r"cannot be recorded .* leave out --cuda-graph\n.*item"):
        trained("reference", TapeRecorder(strict=True))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"optimizer": "adamw"}, "--optimizer adamw"),
        ({"backstitch_training_scale": 0.3}, "--backstitch-training-scale"),
        ({"den_fst": "den.fst"}, "--den-fst"),
    ],
)
def test_options_that_cannot_go_together(options: dict[str, Any], named: str) -> None:
    with pytest.raises(NnetError, match=f"--cuda-graph is given with {named}, whose steps"):
        TrainingOptions(**({"optimizer": "natural-gradient", "cuda_graph": True} | options))


class Late(Launched):
    """A step that a device still works on when the next one is taken."""

    def __init__(self, scores: ScoreNumbers, tensor: torch.Tensor) -> None:
        super().__init__(scores, tensor)
        self.waits = True


def minibatch_events(final: Path) -> list[dict[str, Any]]:
    lines = (final.parent / "train.jsonl").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event["event"] == "minibatch"]
    for event in events:
        del event["frames_per_second"], event["waited"]
    return events


def test_a_whole_run_of_steps_that_are_reported_late(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps are reported one later, and nothing else is different."""
    tapes = []

    def on_tape(step: Step, recorder: Recorder | None) -> RecordedStep:
        tapes.append(TapeRecorder(strict=False))
        return recorded(step, tapes[-1])

    monkeypatch.setattr(trainer, "recorded", on_tape)
    options = {"optimizer": "natural-gradient", "cuda_graph": True, "chunk_width": (20,)}
    expected = run("soon", **options)
    monkeypatch.setattr(recorded_step, "Launched", Late)
    found = run("late", **options)
    assert all(tape.repeated > 5 for tape in tapes)
    assert minibatch_events(found) == minibatch_events(expected)
    assert found.read_bytes() == expected.read_bytes()
