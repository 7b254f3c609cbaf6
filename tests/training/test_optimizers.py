"""Optimizers, and what component settings mean to them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from nnet.errors import NnetError
from nnet.training.optimizers import OPTIMIZERS, set_learning_rate
from nnet.training.options import TrainingOptions


def component(**spec: Any) -> nn.Module:
    layer = nn.Linear(2, 2)
    layer.spec = SimpleNamespace(**spec)
    return layer


def make(name: str, *components: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return OPTIMIZERS[name].make(
        nn.ModuleList(components), TrainingOptions(optimizer=name, **options)
    )


def test_a_learning_rate_factor_multiplies_the_rate() -> None:
    optimizer = make("adamw", component(learning_rate_factor=0.5), component())
    set_learning_rate(optimizer, 0.1)
    rates = {group["lrate_factor"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {0.5: 0.05, 1.0: 0.1}


def test_components_with_factor_zero_are_frozen() -> None:
    frozen = component(learning_rate_factor=0.0)
    optimizer = make("sgd", frozen, component())
    assert not any(p.requires_grad for p in frozen.parameters())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def test_a_network_without_parameters_cannot_be_trained() -> None:
    with pytest.raises(NnetError, match="nothing to train"):
        make("adamw", component(learning_rate_factor=0.0))


def test_weight_decay_spares_vectors() -> None:
    optimizer = make("adamw", component(), weight_decay=0.3)
    decays = {g["params"][0].dim(): g["weight_decay"] for g in optimizer.param_groups}
    assert decays == {1: 0.0, 2: 0.3}


def test_l2_regularize_counts_once_for_each_chunk() -> None:
    optimizer = make("sgd", component(l2_regularize=0.03), chunk_width=(60,))
    assert {g["weight_decay"] for g in optimizer.param_groups} == {2 * 0.03 / 60}


def test_momentum_does_not_change_the_effective_rate() -> None:
    layer = component()
    optimizer = make("sgd", layer, momentum=0.9)
    set_learning_rate(optimizer, 0.1)
    before = layer.weight.detach().clone()
    for _ in range(200):
        layer.weight.grad = torch.ones(2, 2)
        layer.bias.grad = torch.zeros(2)
        optimizer.step()
    torch.testing.assert_close(before - layer.weight, torch.full((2, 2), 20.0), rtol=0.01, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adam"}, "--optimizer is 'adam'; expected: one of adamw, sgd, natural-grad"),
        ({"schedule": "linear"}, "--schedule is 'linear'; expected: one of exponential, cosine"),
        ({"num_epochs": 0}, "--num-epochs is 0; expected: at least 1"),
        ({"chunk_width": (150, 0)}, "--chunk-width is 150,0; expected: frames, 1 or more"),
        ({"momentum": 1.0}, "--momentum is 1.0; expected: at least 0 and below 1"),
        ({"initial_effective_lrate": 0.0}, "--initial-effective-lrate is 0.0"),
        ({"max_grad_norm": -1.0}, "--max-grad-norm is -1.0; expected: 0 or more"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(NnetError) as caught:
        TrainingOptions(**options)
    assert message in str(caught.value)


def test_what_is_left_open_depends_on_the_optimizer() -> None:
    assert TrainingOptions().schedule == "cosine"
    assert TrainingOptions(optimizer="sgd").schedule == "exponential"
    assert TrainingOptions(optimizer="sgd", schedule="cosine").schedule == "cosine"
