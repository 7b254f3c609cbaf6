"""Shrinking parameters at the start of an iteration, as train_rnn.py does."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnet.errors import NnetError
from nnet.graph.info import network_info
from nnet.graph.network import Network
from nnet.modelfile.model import Model, read_model
from nnet.runtime.compiled import compile_network
from nnet.training.scoring import scale_module
from nnet.training.shrinkage import Shrinkage, saturation
from nnet.training.trainer import Trainer
from tests.training.kaldi_training import GOLDEN

Run = Callable[..., Path]
Variant = Callable[[str, str], Model]


def saturations_of_info(network: Network) -> dict[str, list[float]]:
    """By component, from the text of nnet3-info as get_saturation.pl reads it."""
    found: dict[str, list[float]] = {}
    for line in network_info(network).splitlines():
        head = re.match(r"component name=(\S+) type=(\w+)", line)
        if head is None:
            continue
        name, kind = head.groups()
        slope = {"SigmoidComponent": 0.25, "TanhComponent": 1.0}.get(kind)
        if kind == "LstmNonlinearityComponent":
            pattern = r"([ifoc]_t_sigmoid|[cm]_t_tanh)=\{[^}]*?deriv-avg=[^}]+?mean=([^,]+),"
            for part, mean in re.findall(pattern, line):
                value = 1.0 - float(mean) / (0.25 if "sigmoid" in part else 1.0)
                found.setdefault(name, []).append(value)
        elif slope or kind.endswith("GruNonlinearityComponent"):
            for mean in re.findall(r"deriv-avg=[^m]+mean=([^,]+),", line):
                found[name] = [1.0 - float(mean) / (slope or 1.0)]
    return found


@pytest.mark.parametrize("net", ["lstm", "fast_lstm_variants", "fast_gru_family", "tdnn_renorm"])
def test_saturation_is_what_kaldis_script_reads_from_info(net: str) -> None:
    network = read_model(GOLDEN / "nets" / net / "trained.raw").network
    readable = saturations_of_info(network)  # not the vectors of few elements, which have no mean
    part = {name: c for name, c in network.components.items() if name in readable}
    theirs = [value for values in readable.values() for value in values]
    found = saturation(dataclasses.replace(network, components=part))
    assert found == pytest.approx(np.mean(theirs) if theirs else 0.0, abs=2e-3)
    assert (found > 0.05) == (net != "tdnn_renorm")


def test_a_network_without_statistics_is_not_saturated() -> None:
    network = read_model(GOLDEN / "nets/lstm/init.raw").network
    assert saturation(network) == 0.0


def never() -> float:
    raise AssertionError("the saturation is not needed")


def test_scales_are_those_of_kaldis_recipes() -> None:
    assert Shrinkage().scale(0.01, True, never) == 1.0
    assert Shrinkage(proportional_shrink=20.0).scale(0.001, True, never) == pytest.approx(0.98)
    both = Shrinkage(proportional_shrink=1.0, shrink_value=0.99)
    assert both.scale(0.02, False, never) == pytest.approx(0.98)
    assert both.scale(0.001, True, never) == 0.99
    assert both.scale(0.001, False, lambda: 0.41) == 0.99
    assert both.scale(0.001, False, lambda: 0.40) == pytest.approx(0.999)


def test_a_scaled_module_is_kaldis_scaled_model() -> None:
    folder = GOLDEN / "training/frame_level"
    module = compile_network(read_model(folder / "plain/trained.raw").network)
    before = module.state_dict()["components.tdnn1/affine.linear"].clone()
    scale_module(module, 0.5)
    theirs = read_model(folder / "scaled.raw").network
    for name, component in module.to_network().components.items():
        for key, array in component.parameters().items():
            wanted = theirs.components[name].parameters()[key]
            np.testing.assert_array_equal(array, wanted)
        if hasattr(component, "stats_mean"):
            assert component.count == pytest.approx(theirs.components[name].count)
            np.testing.assert_allclose(component.stats_mean, theirs.components[name].stats_mean)
    assert (module.network.components["tdnn1.affine"].linear == before.numpy()).all()


def shrinks(final: Path) -> list[float]:
    lines = (final.parent / "train.jsonl").read_text().splitlines()
    events = map(json.loads, lines)
    return [event["shrink"] for event in events if event["event"] == "minibatch"]


def test_a_run_shrinks_before_each_iteration_and_is_resumed_bit_by_bit(
    run: Run, variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = variant("relu-batchnorm-layer name=tdnn2", "sigmoid-layer name=tdnn2")
    options = {
        "optimizer": "natural-gradient", "minibatches_per_iter": 5, "checkpoint_every": 3,
        "proportional_shrink": 10.0, "shrink_value": 0.9, "shrink_saturation_threshold": 0.1,
    }  # fmt: skip
    whole = run("whole", model=model, **options)
    found = shrinks(whole)
    begins = [scale for number, scale in enumerate(found) if scale != 1.0]
    assert found[0] == 0.9
    assert set(begins) == {0.9}
    assert len(begins) >= 4
    train_on = Trainer._train_on

    def limited(self: Trainer, *arguments: Any) -> None:
        if self.position.step == 11:
            raise KeyboardInterrupt
        train_on(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_on", limited)
        with pytest.raises(KeyboardInterrupt):
            run("parts", model=model, **options)
    resumed = run("parts", model=model, resume=True, **options)
    assert resumed.read_bytes() == whole.read_bytes()
    mild = run("mild", model=model, **{**options, "shrink_saturation_threshold": 0.95})
    later = [scale for scale in shrinks(mild)[1:] if scale != 1.0]
    assert later
    assert all(0.98 < scale < 0.999 for scale in later)


def test_a_scale_that_is_too_small_is_refused(run: Run) -> None:
    with pytest.raises(NnetError, match=r"--proportional-shrink is 400.0; expected: so small that"):
        run("out", optimizer="natural-gradient", proportional_shrink=400.0)
    with pytest.raises(NnetError, match=r"--shrink-value is 0.5; expected: above 0.5"):
        run("out", shrink_value=0.5)
