"""What settings mean inside a CompositeComponent: nnet3 updates it as one component."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnet.graph.build import build_network
from nnet.runtime.compiled import CompiledNetwork, compile_network
from nnet.text.parse import parse_config
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD
from nnet.training.optimizers import OPTIMIZERS, set_learning_rate
from nnet.training.options import TrainingOptions

CONFIG = """
input-node name=input dim=5
component name=c type=CompositeComponent num-components=3 \
component1='type=NaturalGradientAffineComponent input-dim=5 output-dim=8 {settings}' \
component2='type=RectifiedLinearComponent dim=8' \
component3='type=NaturalGradientAffineComponent input-dim=8 output-dim=6 learning-rate=0.02'
component-node name=c component=c input=input
component name=out type=NaturalGradientAffineComponent input-dim=6 output-dim=4
component-node name=out component=out input=c
output-node name=output input=out objective=quadratic
"""


def module(settings: str = "") -> CompiledNetwork:
    text = CONFIG.format(settings=settings)
    return compile_network(build_network(parse_config(text), rng=np.random.default_rng(1))).train()


def step(network: CompiledNetwork, optimizer: NaturalGradientSGD) -> dict[str, torch.Tensor]:
    """The change of each parameter."""
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    features = torch.randn(6, 14, 5, generator=torch.Generator().manual_seed(3))
    (100 * network({"input": features})["output"].square().sum()).backward()
    optimizer.step(sequences=6)
    return {name: p.detach() - before[name] for name, p in network.named_parameters()}


def test_max_change_and_l2_regularize_of_components_inside_have_no_meaning() -> None:
    plain, other = module(), module("max-change=0.0001 l2-regularize=0.01")
    wanted = step(plain, NaturalGradientSGD(plain, max_param_change=0.0))
    found = step(other, NaturalGradientSGD(other, max_param_change=0.0))
    for name, change in wanted.items():
        assert torch.equal(found[name], change), name


def test_the_composite_components_own_max_change_holds_for_all_that_is_inside() -> None:
    plain, other = module(), module()
    wanted = step(plain, NaturalGradientSGD(plain, max_param_change=0.0))
    optimizer = NaturalGradientSGD(other, max_param_change=0.0)
    for group in optimizer.param_groups:
        group["max_change"] = 0.001 if group["component"] == "c" else 0.0
    found = step(other, optimizer)
    inside = [name for name in wanted if name.startswith("components.c.")]
    norm = torch.cat([wanted[name].flatten() for name in inside]).norm()
    for name, change in wanted.items():
        scale = 0.001 / norm if name in inside else 1.0
        torch.testing.assert_close(found[name], scale * change, rtol=1e-4, atol=1e-7)
    assert optimizer.max_change is not None
    assert optimizer.max_change.report() == (
        "Per-component max-change active on 1 / 2 Updatable Components. (Smallest "
        f"factor={0.001 / norm.item():.6g} on c with max-change=0.001). "
    )


def test_learning_rates_are_those_of_the_components_inside() -> None:
    optimizer = NaturalGradientSGD(module("learning-rate=0.5"))
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates == pytest.approx({"c.component1": 0.5, "c.component3": 0.02, "out": 0.001})


@pytest.mark.parametrize("name", ["natural-gradient", "sgd"])
def test_factors_are_multiplied(name: str) -> None:
    network = module("learning-rate-factor=0.5")
    network.get_submodule("components.c").spec.learning_rate_factor = 0.25
    optimizer = OPTIMIZERS[name].make(network, TrainingOptions(optimizer=name))
    set_learning_rate(optimizer, 0.8)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    found = {key: rates[parameter] for key, parameter in network.named_parameters()}
    assert found["components.c.component1.linear"] == pytest.approx(0.1)
    assert found["components.c.component3.bias"] == pytest.approx(0.2)
    assert found["components.out.linear"] == pytest.approx(0.8)
