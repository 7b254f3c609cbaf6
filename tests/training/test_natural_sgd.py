"""The optimizer: resuming, minibatches that are not finite, statistics, self-repair."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from nnet.errors import NnetError
from nnet.graph.build import build_network
from nnet.graph.network import Network
from nnet.runtime.compiled import CompiledNetwork, compile_network
from nnet.text.parse import parse_config
from nnet.training.checkpoints.checkpoint import read_checkpoint, write_checkpoint
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD
from nnet.training.random_state import random_state, set_random_state

CONFIG = """
input-node name=input dim=5
component name=a type=NaturalGradientAffineComponent input-dim=15 output-dim=8 learning-rate=0.01 \
max-change=0.75 l2-regularize=0.002
component-node name=a component=a input=Append(Offset(input,-1), input, Offset(input,1))
component name=relu type=RectifiedLinearComponent dim=8 self-repair-scale=0.02
component-node name=relu component=relu input=a
component name=bn type=BatchNormComponent dim=8
component-node name=bn component=bn input=relu
component name=lin type=LinearComponent input-dim=8 output-dim=6 orthonormal-constraint=-1.0
component-node name=lin component=lin input=bn
component name=out type=NaturalGradientAffineComponent input-dim=6 output-dim=4 \
learning-rate-factor=0.5
component-node name=out component=out input=lin
component name=sm type=LogSoftmaxComponent dim=4
component-node name=sm component=sm input=out
output-node name=output input=sm
"""


def network() -> Network:
    return build_network(parse_config(CONFIG), rng=np.random.default_rng(1))


def loss_of(module: CompiledNetwork, number: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(number)
    features = torch.randn(6, 14, 5, generator=generator)
    targets = torch.randint(0, 4, (6, 12), generator=generator)
    outputs = module({"input": features}, module.chunk_request(12))["output"]
    return torch.nn.functional.nll_loss(outputs.mT, targets, reduction="sum")


def train(
    module: CompiledNetwork, optimizer: NaturalGradientSGD, numbers: range, scale: float = 1.0
) -> list[float]:
    losses = []
    for number in numbers:

        def closure(number: int = number) -> torch.Tensor:
            optimizer.zero_grad()
            loss = loss_of(module, number) * scale
            loss.backward()
            return loss

        losses.append(float(optimizer.step(closure, sequences=6).detach()))
    return losses


OPTIONS = [
    {},
    {"momentum": 0.9},
    {"backstitch_training_scale": 0.3, "backstitch_training_interval": 3},
    {"max_param_change": 0.01},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_training_goes_on_bit_by_bit_from_a_checkpoint(
    options: dict[str, float], tmp_path: Path
) -> None:
    torch.manual_seed(4)
    module = compile_network(network()).train()
    optimizer = NaturalGradientSGD(module, **options)
    train(module, optimizer, range(13))
    state = {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": random_state(),
    }
    write_checkpoint(tmp_path / "step-000000013.safetensors", state)
    wanted = train(module, optimizer, range(13, 20))

    stored = read_checkpoint(tmp_path / "step-000000013.safetensors")
    again = compile_network(network()).train()
    resumed = NaturalGradientSGD(again, **options)
    again.load_state_dict(stored["module"])
    resumed.load_state_dict(stored["optimizer"])
    set_random_state(stored["random"])
    assert train(again, resumed, range(13, 20)) == wanted
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name
    ours, theirs = (m.to_network().components["relu"] for m in (module, again))
    assert ours.nonlinearity_count == theirs.nonlinearity_count
    np.testing.assert_array_equal(ours.value_avg, theirs.value_avg)


def test_a_minibatch_that_is_not_finite_is_skipped() -> None:
    module = compile_network(network()).train()
    optimizer = NaturalGradientSGD(module, momentum=0.5)
    train(module, optimizer, range(3))
    before = copy.deepcopy(dict(module.named_parameters()))
    train(module, optimizer, range(3, 4), scale=float("nan"))
    assert optimizer.max_change is not None
    assert optimizer.max_change.report() == "Infinite parameter change, will not apply."
    for name, parameter in module.named_parameters():
        constrained = name == "components.lin.linear"  # as in nnet3, whatever the gradient
        assert constrained or torch.equal(parameter, before[name]), name
    assert np.isfinite(train(module, optimizer, range(4, 8))).all()


def test_learning_rates_come_from_the_model_and_from_groups() -> None:
    module = compile_network(network()).train()
    optimizer = NaturalGradientSGD(module)
    rates = {
        group["name"]: (group["lr"], group["lrate_factor"]) for group in optimizer.param_groups
    }
    assert rates["a"] == (pytest.approx(0.01), 1.0)
    assert rates["out"] == (pytest.approx(0.001), 0.5)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = copy.deepcopy(dict(module.named_parameters()))
    train(module, optimizer, range(1))
    assert torch.equal(module.get_parameter("components.a.linear"), before["components.a.linear"])


def test_components_observe_nothing_after_detach() -> None:
    module = compile_network(network()).train()
    optimizer = NaturalGradientSGD(module)
    optimizer.detach()
    loss_of(module, 0).backward()
    assert module.components["a"].observer is None
    assert module.to_network().components["relu"].nonlinearity_count == 0


def test_backstitch_and_momentum_exclude_each_other() -> None:
    module = compile_network(network())
    with pytest.raises(NnetError, match="expected: one of them 0"):
        NaturalGradientSGD(module, momentum=0.9, backstitch_training_scale=0.3)


def test_backstitch_needs_a_closure() -> None:
    module = compile_network(network()).train()
    optimizer = NaturalGradientSGD(module, backstitch_training_scale=0.3)
    loss_of(module, 0).backward()
    with pytest.raises(NnetError, match="needs a closure"):
        optimizer.step()


def test_statistics_are_averages_of_what_was_seen() -> None:
    torch.manual_seed(0)
    module = compile_network(network()).train()
    optimizer = NaturalGradientSGD(module)
    relu = module.components["relu"]
    seen: list[torch.Tensor] = []
    relu.register_forward_hook(lambda _, __, output: seen.append(output.detach()))
    train(module, optimizer, range(1))
    spec = module.to_network().components["relu"]
    rows = seen[0].reshape(-1, 8)
    assert spec.nonlinearity_count == spec.oderiv_count == len(rows) == 72
    np.testing.assert_allclose(spec.value_avg, rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(spec.deriv_avg, (rows > 0).float().mean(0), rtol=1e-5)
    module.zero_stats()
    assert module.to_network().components["relu"].nonlinearity_count == 0


def test_self_repair_pushes_dead_units_up_and_full_ones_down() -> None:
    """nnet3 adds the scale, over the probability of a repair, to the objective's derivative."""
    torch.manual_seed(2)
    module = compile_network(network()).train()
    optimizer = NaturalGradientSGD(module)
    with torch.no_grad():
        module.components["a"].bias[0] = -100.0
        module.components["a"].bias[1] = 100.0
    pushes = []
    for number in range(12):
        optimizer.zero_grad()
        loss_of(module, number).backward()
        pushes.append(module.components["a"].bias.grad[0].item())
    spec = module.to_network().components["relu"]
    repaired = [push for push in pushes if push]
    assert 2 <= len(repaired) <= 10
    np.testing.assert_allclose(repaired, -0.02 / 0.5 * 72, rtol=1e-5)
    assert spec.num_dims_processed == 8 * len(repaired)
    assert spec.num_dims_self_repaired >= 2 * len(repaired)


def test_the_l2_penalty_is_for_components_without_a_gradient_too() -> None:
    config = CONFIG + (
        "component name=b type=NaturalGradientAffineComponent input-dim=8 output-dim=2 "
        "l2-regularize=0.5 learning-rate=0.1 max-change=0\n"
        "component-node name=b component=b input=relu\noutput-node name=second input=b\n"
    )
    net = build_network(parse_config(config), rng=np.random.default_rng(1))
    module = compile_network(net).train()
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 14, 5, generator=generator)
    optimizer = NaturalGradientSGD(module, max_param_change=0.0)
    outputs = module({"input": features}, module.chunk_request(12, outputs=("output",)))
    outputs["output"].sum().backward()
    optimizer.step(sequences=2)
    trained = module.to_network().components["b"]
    wanted = net.components["b"].linear * (1 - 2 * 0.1 * 0.5 * 2)
    np.testing.assert_allclose(trained.linear, wanted, rtol=1e-5)
