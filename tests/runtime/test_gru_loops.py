"""GRU layers in loops: in C++ and in plain torch, against float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import nnet
from nnet.modules import gru, statistics
from nnet.modules.cells import CellDerivative, CellModule, CellSteps
from nnet.modules.statistics import StatisticsModule

REPAIR = 'gru-nonlinearity-options="self-repair-scale=0.1 self-repair-threshold=0.8"'
PROJECTED = "recurrent-projection-dim=5 non-recurrent-projection-dim=3"
LAYERS = {
    "gru": "fast-gru-layer name=gru cell-dim=9",
    "pgru": f"fast-pgru-layer name=gru cell-dim=9 {PROJECTED}",
    "opgru": f"fast-opgru-layer name=gru cell-dim=9 {PROJECTED}",
}
FRAMES = 14


def network(layer: str, delay: int) -> nnet.Network:
    text = f"{LAYERS[layer]} {REPAIR} delay={delay}"
    return nnet.build(f"input name=input dim=7\n{text}\noutput name=output input=gru\n")


def run(module: nnet.CompiledNetwork, dtype: torch.dtype) -> dict[str, Tensor]:
    """The output, and the gradients for the input and the parameters."""
    module = module.to(dtype)
    generator = torch.Generator().manual_seed(1)
    request = module.chunk_request(FRAMES, extra=(3, 3))
    x = torch.randn(3, request.inputs[0][1].count, 7, generator=generator).to(dtype)
    x.requires_grad_()
    output = module({"input": x}, request)["output"]
    (output * torch.randn(output.shape, generator=generator).to(dtype)).sum().backward()
    found = {name: p.grad for name, p in module.named_parameters()}
    return {"output": output.detach(), "input": x.grad, **found}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name].double(), tensor, rtol=2e-5, atol=2e-5)


@pytest.fixture(params=["native", "reference"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is asked for; native cells must be computed in C++ if they can be."""
    if request.param == "reference":
        return "reference"
    made = CellModule.derivative_in_steps

    def derivative_in_steps(self: CellModule, forward: object, *rest: object) -> object:
        step = made(self, forward, *rest)
        if self.trained.dtype == torch.float32:
            assert isinstance(forward, CellSteps)
            assert forward.run.way == "native"
            assert isinstance(step, CellDerivative)
            assert step.run.way == "native"
        return step

    monkeypatch.setattr(CellModule, "derivative_in_steps", derivative_in_steps)
    return "native"


@pytest.mark.parametrize("delay", [-1, -3, 2])
@pytest.mark.parametrize("layer", LAYERS)
def test_values_and_gradients(layer: str, delay: int, kernels: str) -> None:
    network_ = network(layer, delay)
    expected = run(nnet.compile(network_, kernels=kernels), torch.float64)
    assert_same(run(nnet.compile(network_, kernels=kernels), torch.float32), expected)


@pytest.mark.parametrize("layer", LAYERS)
def test_statistics_and_self_repair(
    layer: str, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With statistics in each step: repaired derivatives differ from others, and go on in time."""
    monkeypatch.setattr(statistics, "chance", lambda: 0.0)
    monkeypatch.setattr(gru, "chance", lambda: 0.0)
    modules, results = [], []
    for dtype in (torch.float64, torch.float32):
        module = nnet.compile(network(layer, -2), kernels=kernels).train()
        for part in module.modules():
            if isinstance(part, StatisticsModule):
                part.store_statistics = True
        modules.append(module)
        results.append(run(module, dtype))
    assert_same(results[1], results[0])
    unrepaired = run(nnet.compile(network(layer, -2), kernels=kernels), torch.float64)
    for name in ("input", "components.gru/gru_nonlin.w_h"):
        assert not torch.allclose(results[0][name], unrepaired[name], rtol=1e-3)
    exact, single = (m.to_network().components["gru.gru_nonlin"] for m in modules)
    rows_of_whole_steps = 3 * (FRAMES + 3)
    assert exact.count == single.count == rows_of_whole_steps
    assert exact.self_repair_total == single.self_repair_total > 0
    for name in ("value_avg", "deriv_avg"):
        expected, found = (torch.tensor(getattr(spec, name)) for spec in (exact, single))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
