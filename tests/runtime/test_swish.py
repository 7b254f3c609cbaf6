"""A nonlinearity whose derivative is a function of its input, in every form in which it runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import nnet
from nnet.plan import ir

TEXT = """
input dim=6 name=input
swish-layer name=hidden dim=5 input=Append(-1,0,1)
output-layer name=output dim=4 include-log-softmax=false
"""
LOOP = """
input-node name=input dim=3
component name=affine type=AffineComponent input-dim=7 output-dim=4
component name=swish type=SwishComponent dim=4
component-node name=affine component=affine input=Append(input, IfDefined(Offset(swish, -1)))
component-node name=swish component=swish input=affine
output-node name=output input=swish
"""


def built(text: str) -> nnet.Network:
    return nnet.build(text, rng=np.random.default_rng(3))


def by_definition(network: nnet.Network, rows: torch.Tensor) -> torch.Tensor:
    """The output of TEXT, in float64, from rows (batch, time, 6)."""
    hidden, last = (network.components[n] for n in ("hidden.affine", "output.affine"))
    padded = torch.cat([rows[:, :1], rows, rows[:, -1:]], dim=1).double()
    spliced = torch.cat([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], dim=-1)
    made = spliced @ torch.tensor(hidden.linear).double().T + torch.tensor(hidden.bias).double()
    made = made * made.sigmoid()
    return made @ torch.tensor(last.linear).double().T + torch.tensor(last.bias).double()


@pytest.mark.parametrize("kernels", ["reference", "triton"])
@pytest.mark.parametrize("test_mode", [False, True])
def test_values_and_gradients(kernels: str, test_mode: bool) -> None:
    network = built(TEXT)
    module = nnet.compile(network, test_mode=test_mode, kernels=kernels)
    rows = torch.randn(2, 9, 6, requires_grad=True)
    weights = torch.randn(2, 9, 4)
    given = torch.autograd.grad((module({"input": rows})["output"] * weights).sum(), rows)[0]
    exact = by_definition(network, rows)
    expected = torch.autograd.grad((exact * weights).sum(), rows)[0]
    with torch.no_grad():
        torch.testing.assert_close(module({"input": rows})["output"].double(), exact.detach())
    torch.testing.assert_close(given, expected)


def test_it_joins_the_affine_transform_before_it() -> None:
    module = nnet.compile(built(TEXT), test_mode=True)
    affines = [o for o in module.plan.operations if isinstance(o, ir.SplicedAffine)]
    assert [o.activation for o in affines] == ["swish", ""]
    assert not [o for o in module.plan.operations if isinstance(o, ir.Apply)]


def test_statistics_are_those_of_the_function_and_its_derivative() -> None:
    network = built(TEXT)
    module = nnet.compile(network)
    swish = module.components["hidden/swish"]
    swish.store_statistics = True
    rows = torch.randn(2, 9, 6)
    module({"input": rows})["output"].sum().backward()
    spec = module.to_network().components["hidden.swish"]
    hidden = network.components["hidden.affine"]
    padded = torch.cat([rows[:, :1], rows, rows[:, -1:]], dim=1)
    spliced = torch.cat([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], dim=-1)
    x = (spliced @ torch.tensor(hidden.linear).T + torch.tensor(hidden.bias)).requires_grad_()
    y = x * x.sigmoid()
    slope = torch.autograd.grad(y.sum(), x)[0]
    assert spec.nonlinearity_count == 18
    np.testing.assert_allclose(spec.value_avg, y.detach().mean((0, 1)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(spec.deriv_avg, slope.mean((0, 1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("test_mode", [False, True])
def test_in_a_loop(test_mode: bool) -> None:
    network = built(LOOP)
    affine = network.components["affine"]
    rows = torch.randn(2, 5, 3, requires_grad=True)
    module = nnet.compile(network, test_mode=test_mode)
    made = module({"input": rows})["output"]
    state, states = torch.zeros(2, 4), []
    for t in range(5):
        x = torch.cat([rows[:, t], state], dim=-1) @ torch.tensor(affine.linear).T
        x = x + torch.tensor(affine.bias)
        state = x * x.sigmoid()
        states.append(state)
    expected = torch.stack(states, dim=1)
    torch.testing.assert_close(made, expected)
    weights = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad((made * weights).sum(), rows)[0],
        torch.autograd.grad((expected * weights).sum(), rows)[0],
    )


def test_models_keep_it(tmp_path) -> None:
    network = built(TEXT)
    nnet.save(network, tmp_path / "net.raw")
    again = nnet.load(tmp_path / "net.raw").network
    assert type(again.components["hidden.swish"]).__name__ == "Swish"
    assert not again.components["hidden.swish"].in_kaldi
