"""LF-MMI training from Kaldi's initial models on Kaldi's examples gives Kaldi's trained models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from nnet.data.chain.minibatch import chain_minibatch
from nnet.data.examples import read_objects
from nnet.data.merging import MergingRules, merged
from nnet.data.minibatch import Minibatch
from nnet.graph.network import Network
from nnet.modelfile.chain_examples import read_chain_example
from nnet.modelfile.model import read_model
from nnet.runtime.compiled import compile_network
from nnet.runtime.logits import Logits
from nnet.training.evaluation import evaluate_network
from nnet.training.lfmmi.graph import read_denominator
from nnet.training.lfmmi.objective import ChainObjective
from nnet.training.lfmmi.options import ChainOptions
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD
from nnet.training.objectives import loss
from nnet.training.scoring import Scorer
from nnet.training.tallies import tallies
from tests.training.kaldi_training import GOLDEN, change_errors, start

CHAIN = GOLDEN / "training/chain"
E2E = GOLDEN / "training/chain_e2e"
SETTINGS = ["plain", "leaky_default", "l2", "xent", "backstitch"]


def case(name: str) -> tuple[Path, Path]:
    """The folders of the initial and of the trained model."""
    return (E2E, E2E) if name == "chain_e2e" else (CHAIN, CHAIN / name)


def options_of(folder: Path) -> tuple[ChainOptions, dict[str, float]]:
    """Of the objective, and of the trainer; nnet3-chain-train's default is 0 for what is not
    given."""
    text = (folder / "options").read_text()
    given = {k.replace("-", "_"): float(v) for k, v in re.findall(r"--(\S+?)=(\S+)", text)}
    scale = given.pop("backstitch_training_scale", 0.0)
    given.pop("backstitch_training_interval", 0.0)
    trainer = {"backstitch_training_scale": scale} if scale else {}
    return ChainOptions(**{"xent_regularize": 0.0, **given}), trainer


def minibatches(folder: Path, network: Network, with_xent: bool) -> Iterator[Minibatch]:
    size = {CHAIN: "6", E2E: "4"}[folder]
    examples = read_objects(f"ark:{folder}/cegs_unmerged.ark", read_chain_example)
    rules = MergingRules.parse(size)
    for _, example in merged((example for _, example in examples), rules):
        if example.outputs[0].supervision.sequences == int(size):
            yield chain_minibatch(example, network, with_xent=with_xent)


def probabilities(
    network: Network, folder: Path, options: ChainOptions, *, test: bool
) -> list[str]:
    module = compile_network(network).train(not test)
    objective = ChainObjective(read_denominator(folder / "den.fst", network), options)
    data = minibatches(folder, network, options.xent_regularize > 0)
    return evaluate_network(module, data, objective).report()


def logged_probabilities(log: str) -> list[list[str]]:
    """What nnet3-chain-compute-prob said before and after training, sorted by output."""
    parts = log.split("Wrote raw model")
    return [sorted(re.findall(r"Overall log-probability .*", part)) for part in parts]


def assert_same_lines(ours: list[str], theirs: list[str], rtol: float) -> None:
    assert [re.findall("'.*'", line) for line in ours] == [re.findall("'.*'", x) for x in theirs]
    for mine, wanted in zip(ours, theirs, strict=True):
        numbers = [[float(x) for x in re.findall(r"-?\d\S*\d", line)] for line in (mine, wanted)]
        np.testing.assert_allclose(*numbers, rtol=rtol)


@pytest.mark.parametrize("name", [*SETTINGS, "chain_e2e"])
def test_training_as_kaldi(name: str) -> None:
    initial, folder = case(name)
    options, trainer = options_of(folder)
    network, module = start(initial)
    optimizer = NaturalGradientSGD(module, **trainer)
    objective = ChainObjective(read_denominator(initial / "den.fst", network), options)
    found: dict[str, list[float]] = {}
    for minibatch in minibatches(initial, network, options.xent_regularize > 0):
        passes = []

        def closure(minibatch: Minibatch = minibatch, passes: list = passes) -> None:
            optimizer.zero_grad()
            scores = Scorer(module, objective)(minibatch)
            loss(scores).backward()
            passes.append(tallies(scores))

        optimizer.step(closure, sequences=minibatch.sequences)
        for suffix, tally in zip(("", "_backstitch"), passes, strict=False):
            for output, of in tally.items():
                found.setdefault(output + suffix, []).append(of.objective)
    log = (folder / "train.log").read_text()
    for output, objectives in found.items():
        theirs = re.findall(rf"for '{output}' for minibatches \S+ is (\S+)", log)
        assert theirs
        np.testing.assert_allclose(objectives[: len(theirs)], np.array(theirs, float), rtol=1e-5)
    trained = read_model(folder / "trained.raw").network
    assert max(change_errors(network, module.to_network(), trained).values()) < 1e-3
    before, after = logged_probabilities(log)
    assert_same_lines(probabilities(network, initial, options, test=False), before, rtol=2e-6)
    ours = probabilities(module.to_network(), initial, options, test=True)
    assert_same_lines(ours, after, rtol=1e-5)


def test_what_was_spoken_decides_the_derivative_weights() -> None:
    """With the examples' weights the derivative of a frame is multiplied, the value is not."""
    network = read_model(CHAIN / "init.raw").network
    module = compile_network(network).train()
    transitions = read_denominator(CHAIN / "den.fst", network)
    minibatch = next(minibatches(CHAIN, network, with_xent=True))
    target = minibatch.targets["output"]
    assert target.deriv_weights is not None
    assert (target.deriv_weights != 1).any()
    with torch.no_grad():
        outputs = module(minibatch.inputs, minibatch.request)
    results = {}
    for applied in (False, True):
        given = {name: x.clone().requires_grad_() for name, x in outputs.items()}
        options = ChainOptions(l2_regularize=0.1, apply_deriv_weights=applied)
        scores = ChainObjective(transitions, options)(given, minibatch)
        loss(scores).backward()
        results[applied] = (tallies(scores), [given[name].grad for name in given])
    assert results[False][0].keys() == results[True][0].keys() == {"output", "output-xent"}
    for output, tally in results[False][0].items():
        same = results[True][0][output]
        assert (same.total, same.auxiliary) == pytest.approx((tally.total, tally.auxiliary))
    weights = target.deriv_weights.t()[..., None]
    for plain, weighted in zip(results[False][1], results[True][1], strict=True):
        torch.testing.assert_close(weighted, plain * weights)


@pytest.mark.parametrize("kernels", ["reference", "triton"])
def test_the_regularizer_needs_no_probabilities(kernels: str) -> None:
    """The log-softmax of `output-xent` is left to the objective, with the same result."""
    network = read_model(CHAIN / "xent/trained.raw").network
    transitions = read_denominator(CHAIN / "den.fst", network)
    minibatch = next(minibatches(CHAIN, network, with_xent=True))
    options = ChainOptions(apply_deriv_weights=True)
    found = []
    for chosen, left in (("reference", ()), (kernels, ("output-xent",))):
        module = compile_network(network, kernels=chosen, log_likelihoods=left).train()
        outputs = module.outputs(minibatch.inputs, minibatch.request)
        assert [name for name, given in outputs.items() if isinstance(given, Logits)] == [*left]
        scores = ChainObjective(transitions, options)(outputs, minibatch)
        loss(scores).backward()
        found.append((tallies(scores), dict(module.named_parameters())))
    (expected, theirs), (ours, mine) = found
    for name in ("output", "output-xent"):
        assert ours[name].total == pytest.approx(expected[name].total, rel=1e-5)
    for name, parameter in theirs.items():
        error = (mine[name].grad - parameter.grad).norm() / parameter.grad.norm()
        assert error < 1e-4, name


def test_a_minibatch_with_bad_numbers_counts_as_minus_ten_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = read_model(CHAIN / "init.raw").network
    module = compile_network(network).train()
    transitions = read_denominator(CHAIN / "den.fst", network)
    minibatch = next(minibatches(CHAIN, network, with_xent=True))
    outputs = module(minibatch.inputs, minibatch.request)
    given = {name: x.detach().requires_grad_() for name, x in outputs.items()}
    given["output"].data[2, 3, 1] = float("nan")
    scores = ChainObjective(transitions, ChainOptions())(given, minibatch)
    loss(scores).backward()
    assert tallies(scores)["output"].objective == -10.0
    assert not given["output"].grad.any()
    assert not given["output-xent"].grad.any()
    assert "minibatch counts as -10 per frame" in caplog.text
