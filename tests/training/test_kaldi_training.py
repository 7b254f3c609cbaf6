"""Training from Kaldi's initial models on Kaldi's examples gives Kaldi's trained models."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from nnet.modelfile.model import read_model
from nnet.training.natural_sgd import NaturalGradientSGD, UpdateOptions
from tests.training.kaldi_training import (
    GOLDEN,
    Log,
    change_errors,
    factors,
    run,
    start,
)

FRAME_LEVEL = GOLDEN / "training/frame_level"
SETTINGS = {
    "plain": {},
    "no_max_change": {},
    "small_max_change": {},
    "momentum": {},
    "l2": {},
    "batchnorm_scale": {},
    "backstitch": {},
    "backstitch_interval4": {"seed": 1},  # Kaldi's random choice of the minibatches
}
COMPONENTS = {
    "affine": 1e-5,
    "linear": 1e-4,
    "linear_plain": 1e-4,
    "ng_affine": 1e-4,
    # Derivatives of rank 4 against a rank of 9: rounding chooses the other directions, and the
    # same formulas in float32 and float64 differ by 1e-2.
    "ng_affine_ranks": 4e-2,
    "ng_per_element_scale": 1e-5,
    "per_element_offset": 1e-5,
    "per_element_offset_plain": 1e-5,
    "scale_and_offset": 1e-5,
    "tdnn": 1e-4,
    "tdnn_plain_nobias": 1e-5,
    "sigmoid": 1e-5,
    "tanh": 1e-5,
    "relu": 1e-5,
    "relu_block": 1e-5,
    "softmax": 1e-5,
    "batchnorm": 2e-2,
    "normalize": 1e-5,
    "constant_function": 1e-5,
    "repeated_affine": 1e-4,
    "ng_repeated_affine": 1e-4,
    "time_height_convolution_subsample": 1e-5,
    "time_height_convolution": 5e-2,  # 4 rows against a rank of 14, as in ng_affine_ranks
    "maxpooling": 1e-4,
    "sum_block": 1e-5,
    "elementwise_product": 1e-5,
    "block_affine": 1e-5,
    "clip_gradient": 1e-5,
    "gru_nonlinearity": 1e-5,
    "gru_nonlinearity_projected": 1e-5,
    "output_gru_nonlinearity": 1e-5,
    "lstm_nonlinearity": 1e-4,
    "backprop_truncation": 1e-5,
    "batchnorm_block": 1e-5,
    "clip_gradient_elementwise": 1e-5,
    "convolution_yzx": 1e-5,
    "convolution_zyx": 1e-5,
    "fixed_affine": 1e-5,
    "fixed_bias": 1e-5,
    "fixed_scale": 1e-5,
    "logsoftmax": 1e-5,
    "noop": 1e-5,
    "normalize_block_stddev": 1e-5,
    "per_element_scale": 1e-5,
    "permute": 1e-5,
    "pnorm": 1e-5,
    "restricted_attention": 1e-5,
    "restricted_attention_no_context": 1e-5,
    "scale_and_offset_plain": 1e-5,
    "sum_group": 1e-5,
    "time_height_convolution_valid": 3e-1,  # as time_height_convolution
}
NETS = {
    "trivial": (0, 3e-3),
    "tdnn_renorm": (0, 3e-3),
    "tdnn_batchnorm": (1, 3e-3),
    "denoising_autoencoder": (0, 3e-3),
    "lstm": (0, 3e-3),
    "blstmp": (0, 3e-3),
    "gru_family": (0, 3e-3),
    "fast_gru_family": (0, 3e-3),
    "norm_gru_family": (0, 3e-3),
    "stats_moving": (2, 3e-3),
    "attention": (0, 1e-2),
    "fast_lstm_variants": (0, 3e-2),
    "xvector": (0, 2e-1),
    "conv_orders": (0, 4e-1),
}
"""With a seed that repairs the same units in the first minibatch as Kaldi's run: where half of the
units are dead, this decides what natural gradient starts from. And the limit of parameters' errors:
in the last three nets, vectors of lower rank than natural gradient's estimates leave some of its
directions to rounding; initial parameters that differ by 1e-7 move our own result as far."""


def options(text: str) -> dict[str, float]:
    """Options of nnet3-train, by our names and of our types."""
    types = {field.name: type(field.default) for field in dataclasses.fields(UpdateOptions)}
    found = {}
    for word in text.split():
        name, value = word.removeprefix("--").split("=")
        name = name.replace("-", "_")
        found[name] = types[name](float(value))
    return found


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_trainer_setting(setting: str) -> None:
    folder = FRAME_LEVEL / setting
    network, module = start(folder)
    chosen = options((folder / "options").read_text()) | SETTINGS[setting]
    optimizer = NaturalGradientSGD(module, **chosen)
    objectives, reports = run(network, module, optimizer, FRAME_LEVEL / "egs.ark")
    log = Log.of(folder / "train.log")
    theirs = read_model(folder / "trained.raw").network
    ours = module.to_network()
    assert max(change_errors(network, ours, theirs).values()) < 1e-4
    np.testing.assert_allclose(objectives[: len(log.objectives)], log.objectives, rtol=1e-5)
    assert reports == log.reports == []
    for name, component in theirs.components.items():
        if hasattr(component, "stats_mean"):
            found = ours.components[name]
            np.testing.assert_allclose(found.count, component.count, rtol=1e-6)
            np.testing.assert_allclose(found.stats_mean, component.stats_mean, atol=1e-5)
            np.testing.assert_allclose(found.stats_var, component.stats_var, atol=1e-5)


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_component_type(component: str) -> None:
    folder = GOLDEN / f"components/{component}__trained"
    torch.manual_seed(0)
    network, module = start(folder)
    objectives, reports = run(network, module, NaturalGradientSGD(module), folder / "egs.ark")
    log = Log.of(folder / "train.log")
    theirs = read_model(folder / "trained.raw").network
    errors = change_errors(network, module.to_network(), theirs)
    assert max(errors.values()) < COMPONENTS[component]
    np.testing.assert_allclose(objectives[: len(log.objectives)], log.objectives, rtol=2e-5)
    assert len(reports) == len(log.reports)
    np.testing.assert_allclose(factors(reports), factors(log.reports), atol=3e-3)


@pytest.mark.parametrize("net", NETS)
def test_whole_networks(net: str) -> None:
    folder = GOLDEN / f"nets/{net}"
    seed, limit = NETS[net]
    torch.manual_seed(seed)
    network, module = start(folder)
    optimizer = NaturalGradientSGD(module)
    torch.manual_seed(seed)
    objectives, reports = run(network, module, optimizer, folder / "egs.ark")
    log = Log.of(folder / "train.log")
    theirs = read_model(folder / "trained.raw").network
    assert max(change_errors(network, module.to_network(), theirs).values()) < limit
    np.testing.assert_allclose(objectives[: len(log.objectives)], log.objectives, rtol=1e-4)
    np.testing.assert_allclose(factors(reports), factors(log.reports), rtol=1e-4)


class Constrained(NaturalGradientSGD):
    """Constrains the components that a list names in each minibatch, instead of random ones."""

    chosen: list[str]

    def _is_constrained(self, name: str) -> bool:
        return name in self.chosen[self.minibatches].split()


@pytest.mark.parametrize(
    ("net", "chosen"),
    [
        ("tdnnf", ["tdnnf4.linear tdnnf5.linear prefinal-chain.linear", "", "", ""]),
        ("tdnnf_lda", ["tdnnf3.linear", "", "", ""]),
        ("cnn_tdnnf", ["tdnnf5.linear", "tdnnf5.linear", "prefinal-chain.linear", ""]),
    ],
)
def test_factored_layers_with_kaldis_choice_of_what_is_constrained(
    net: str, chosen: list[str]
) -> None:
    """Kaldi constrains at random; these are the choices that its objectives are explained by."""
    folder = GOLDEN / f"nets/{net}"
    torch.manual_seed(0)
    network, module = start(folder)
    optimizer = Constrained(module)
    optimizer.chosen = chosen
    objectives, _ = run(network, module, optimizer, folder / "egs.ark")
    log = Log.of(folder / "train.log")
    np.testing.assert_allclose(objectives[:2], log.objectives[:2], rtol=3e-5)
    # In cnn_tdnnf weights of both signs cancel; rounding alone moves the third by 8e-3.
    np.testing.assert_allclose(
        objectives[:3], log.objectives, rtol=1e-2 if net == "cnn_tdnnf" else 1e-3
    )


def test_a_constraint_that_kaldi_happened_not_to_apply() -> None:
    folder = GOLDEN / "nets/lstmb"
    network, module = start(folder)
    optimizer = Constrained(module)
    optimizer.chosen = [""] * 4
    objectives, _ = run(network, module, optimizer, folder / "egs.ark")
    theirs = read_model(folder / "trained.raw").network
    assert max(change_errors(network, module.to_network(), theirs).values()) < 5e-3
    np.testing.assert_allclose(objectives[:3], Log.of(folder / "train.log").objectives, rtol=2e-5)


def test_a_max_change_report_reads_like_kaldis() -> None:
    folder = GOLDEN / "components/affine__trained"
    network, module = start(folder)
    optimizer = NaturalGradientSGD(module)
    _, reports = run(network, module, optimizer, folder / "egs.ark")
    log = Log.of(folder / "train.log")
    assert reports == log.reports
    assert optimizer.max_change_stats.report() == log.totals
