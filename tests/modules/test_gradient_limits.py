"""Derivatives that are clipped, truncated and repaired, and what is stored about them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nnet.modules.gradient import BackpropTruncation, ClipGradient
from nnet.modules.gru import AnyGruNonlinearity
from nnet.modules.lstm import LstmNonlinearity
from nnet.plan.times import Times
from tests.modules.test_component_derivatives import module_of, rows


def gradient_through(module: torch.nn.Module, x: Tensor, times: Times, gradient: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(module(x, times), x, gradient)[0]


def norms(gradient: Tensor) -> Tensor:
    return gradient.norm(dim=-1)


def training(module: torch.nn.Module) -> torch.nn.Module:
    module.store_statistics = True
    return module.train()


def test_truncation_scales_rows_down_to_the_threshold() -> None:
    module = training(module_of("BackpropTruncation dim=3 scale=0.5 clipping-threshold=0.3"))
    assert isinstance(module, BackpropTruncation)
    x, gradient = rows(3), rows(3, seed=2)
    gradient[0, 0] = 0.01
    result = gradient_through(module, x, Times(1, 1, 3), gradient)
    torch.testing.assert_close(result[0, 0], gradient[0, 0] * 0.5)
    clipped = norms(gradient * 0.5) > 0.3
    torch.testing.assert_close(norms(result)[clipped], torch.full_like(norms(result)[clipped], 0.3))
    spec = module.to_spec()
    assert (spec.count, spec.num_clipped) == (6, clipped.sum())


def test_truncation_zeroes_large_rows_where_a_step_crosses_a_boundary() -> None:
    module = training(
        module_of(
            "BackpropTruncation dim=2 clipping-threshold=0 zeroing-threshold=1 zeroing-interval=4 "
            "recurrence-interval=2"
        )
    )
    times, gradient = Times(-1, 1, 8), torch.full((8, 2, 2), 5.0).double()
    gradient[6] = 0.1
    result = gradient_through(module, torch.zeros(8, 2, 2).double(), times, gradient)
    kept = [
        [t for t, row in zip(range(-1, 7), result[:, n], strict=True) if row.any()] for n in (0, 1)
    ]
    assert kept == [[-1, 2, 3, 5, 6], [-1, 0, 3, 4, 5]]
    spec = module.to_spec()
    assert (spec.count_zeroing_boundaries, spec.num_zeroed) == (6 + 2, 6)


def test_clipping_by_norm_and_by_element() -> None:
    x, gradient = rows(4), rows(4, seed=2)
    by_norm = module_of("ClipGradient dim=4 clipping-threshold=0.5 norm-based-clipping=true")
    result = gradient_through(by_norm, x, Times(0, 1, 3), gradient)
    expected = gradient * (0.5 / norms(gradient)).clamp(max=1).unsqueeze(-1)
    torch.testing.assert_close(result, expected)
    by_element = module_of("ClipGradient dim=4 clipping-threshold=0.5")
    result = gradient_through(by_element, x, Times(0, 1, 3), gradient)
    torch.testing.assert_close(result, gradient.clamp(-0.5, 0.5))
    nothing = module_of("ClipGradient dim=4 clipping-threshold=0")
    assert not gradient_through(nothing, x, Times(0, 1, 3), gradient).any()


def test_clipping_pulls_large_inputs_to_the_target_when_too_many_rows_are_clipped() -> None:
    module = training(
        module_of(
            "ClipGradient dim=4 clipping-threshold=0.1 norm-based-clipping=true "
            "self-repair-target=0.5 self-repair-scale=2"
        )
    )
    assert isinstance(module, ClipGradient)
    x, gradient = rows(4), torch.full((3, 2, 4), 1.0).double()
    plain = gradient_through(
        module_of("ClipGradient dim=4 clipping-threshold=0.1 norm-based-clipping=true"),
        x,
        Times(0, 1, 3),
        gradient,
    )
    torch.manual_seed(1)
    results = [gradient_through(module, x, Times(0, 1, 3), gradient) for _ in range(20)]
    repaired = [result for result in results if not torch.allclose(result, plain)]
    spec = module.to_spec()
    assert 0 < len(repaired) < 20
    assert (spec.num_self_repaired, spec.num_backpropped) == (len(repaired), 20)
    assert (spec.num_clipped, spec.count) == (120, 120)
    pull = x.sign() * (x.abs() - 0.5).clamp(min=0)
    added = plain + pull * (2 * 0.1 / norms(pull).mean() / 0.5)
    expected = added * norms(plain).sum() / norms(added).sum()
    torch.testing.assert_close(repaired[0], expected)


def repaired_lstm(x: Tensor, weights: Tensor, scales: Tensor) -> Tensor:
    """An LSTM in plain torch, each nonlinearity's input with a push to its middle."""

    def pushed(x: Tensor, value: Tensor, scale: Tensor) -> Tensor:
        x.register_hook(lambda gradient: gradient + value.detach() * scale)
        return value

    parts = [part * 1.0 for part in x.chunk(5, dim=-1)]
    previous = parts[4]

    def sigmoid(x: Tensor, scale: Tensor) -> Tensor:
        value = x.sigmoid()
        pushed(x, 2 * value - 1, scale)
        return value

    i = sigmoid(parts[0] + weights[0] * previous, scales[0])
    f = sigmoid(parts[1] + weights[1] * previous, scales[1])
    candidate = pushed(parts[2], parts[2].tanh(), scales[2])
    cell = f * previous + i * candidate
    o = sigmoid(parts[3] + weights[2] * cell, scales[3])
    inner = cell * 1.0
    output = o * pushed(inner, inner.tanh(), scales[4])
    return torch.cat((cell, output), dim=-1)


def test_saturated_units_of_an_lstm_are_repaired() -> None:
    module = training(module_of("LstmNonlinearity cell-dim=3 self-repair-scale=0.1"))
    assert isinstance(module, LstmNonlinearity)
    module.count += 9
    module.deriv_sum += torch.tensor(
        [[0.4, 0.6, 0.4], [0.6, 0.4, 0.6], [1.9, 2.1, 1.9], [0.4, 0.4, 0.6], [2.1, 1.9, 1.9]]
    )
    thresholds = torch.tensor([[0.05], [0.05], [0.2], [0.05], [0.2]])
    wrong = (module.deriv_sum / 10 < thresholds).double()
    assert 0 < wrong.sum() < 15
    x, gradient = rows(15), rows(6, seed=2)
    leaf = x.clone().requires_grad_()
    weights = module.weights.detach().clone().requires_grad_()
    expected = torch.autograd.grad(
        repaired_lstm(leaf, weights, wrong * 0.1), [leaf, weights], gradient
    )
    found = gradient_through(module, x, Times(0, 1, 3), gradient)
    torch.testing.assert_close(found, expected[0], rtol=1e-6, atol=1e-8)
    module.zero_stats()
    module.count += 9
    module.deriv_sum += torch.where(wrong > 0, 0.0, 100.0)
    y = module(x, Times(0, 1, 3)).detach()
    (by_weights,) = module.parameter_derivatives(x, y, gradient, Times(0, 1, 3))
    torch.testing.assert_close(by_weights, expected[1], rtol=1e-6, atol=1e-8)


def test_an_lstm_stores_averages_once_for_all_steps() -> None:
    module = training(module_of("LstmNonlinearity cell-dim=2 self-repair-scale=0"))
    x = rows(10)
    y = module(x, Times(0, 1, 3)).detach()
    gradient = torch.ones_like(y)
    for t in range(3):
        module.derivative(x[t : t + 1], y[t : t + 1], gradient[t : t + 1], Times(t, 1, 1))
    assert module.to_spec().count == 0
    module.parameter_derivatives(x, y, gradient, Times(0, 1, 3))
    spec = module.to_spec()
    assert spec.count == 6
    candidate = x[..., 4:6].tanh()
    np.testing.assert_allclose(spec.value_avg[2], candidate.mean(dim=(0, 1)), rtol=1e-6)
    np.testing.assert_allclose(spec.deriv_avg[2], (1 - candidate**2).mean(dim=(0, 1)), rtol=1e-6)
    np.testing.assert_array_equal(spec.self_repair_prob, np.ones(5))


@pytest.mark.parametrize("kind", ["GruNonlinearity", "OutputGruNonlinearity"])
def test_saturated_units_of_a_gru_are_repaired_in_half_of_the_minibatches(kind: str) -> None:
    settings = "cell-dim=3 self-repair-threshold=2 self-repair-scale=0.1"
    module, plain = training(module_of(f"{kind} {settings}")), module_of(f"{kind} {settings}")
    assert isinstance(module, AnyGruNonlinearity)
    x, gradient = rows(module.spec.input_dim), rows(6, seed=2)
    expected = gradient_through(plain, x, Times(0, 1, 3), gradient)
    h = plain(x, Times(0, 1, 3)).detach()[..., :3]
    torch.manual_seed(0)
    results = [gradient_through(module, x, Times(0, 1, 3), gradient) for _ in range(20)]
    repaired = [r for r in results if not torch.allclose(r, expected)]
    assert 0 < len(repaired) < 20
    start = 6 if kind == "GruNonlinearity" else 3
    inner = slice(start, start + 3)
    torch.testing.assert_close(repaired[0][..., inner], expected[..., inner] + h * 0.2)
    spec = module.to_spec()
    assert (spec.count, spec.self_repair_total) == (6 * len(repaired), 3 * len(repaired))
    np.testing.assert_allclose(spec.value_avg, h.mean(dim=(0, 1)), rtol=1e-6)


def test_statistics_survive_saving() -> None:
    module = training(module_of("LstmNonlinearity cell-dim=2"))
    x = rows(10)
    gradient_through(module, x, Times(0, 1, 3), torch.ones(3, 2, 4).double())
    other = module_of("LstmNonlinearity cell-dim=2", seed=5)
    other.load_state_dict(module.state_dict())
    np.testing.assert_array_equal(other.to_spec().value_avg, module.to_spec().value_avg)


def test_statistics_are_not_stored_unasked() -> None:
    for kind in ("LstmNonlinearity cell-dim=2", "BackpropTruncation dim=10"):
        module = module_of(kind).train()
        x = rows(10)
        y = module(x.requires_grad_(), Times(0, 1, 3))
        y.sum().backward()
        assert module.to_spec().count == 0
