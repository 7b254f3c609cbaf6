"""ReLU, batch-norm and bypass join the affine transform before them, and nothing else changes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import nnet
from nnet.data.example_minibatch import example_minibatch
from nnet.data.examples import read_examples
from nnet.modelfile.model import read_model
from nnet.passes.base import Pass, run_passes
from nnet.passes.fuse_batch_norm import FuseBatchNorm
from nnet.passes.pipeline import pipeline
from nnet.plan import ir
from nnet.plan.dump import dump
from nnet.plan.lower import lower
from nnet.runtime.batch_norm import ReluBatchNorm
from nnet.runtime.compiled import CompiledNetwork
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD
from nnet.training.objectives import OutputObjectives, loss

GOLDEN = Path(__file__).parents[1] / "golden"
NETS = {
    "tdnn_batchnorm": (ir.AffineBatchNorm, False),
    "tdnnf": (ir.AffineBatchNorm, True),
    "tdnnf_lda": (ir.AffineBatchNorm, False),  # it has dropout before the bypass
    "cnn_tdnnf": (ir.ReluBatchNorm, True),
    "conv_orders": (ir.ReluBatchNorm, False),
    "xvector": (ir.AffineBatchNorm, False),
}
"""The golden nets with batch-norm behind rectified linear units, what it becomes, and whether there
is a bypass."""

XCONFIG = """
input dim=5 name=input
relu-batchnorm-layer name=tdnn1 dim=12 input=Append(-1,0,1)
tdnnf-layer name=tdnnf2 dim=12 bottleneck-dim=4 time-stride=1 bypass-scale=0.66
output-layer name=output dim=3
"""


def plan_of(text: str, *passes: Pass) -> ir.Plan:
    return run_passes(lower(nnet.build(text), None), passes or pipeline(test_mode=False))


def test_the_plan_of_a_factored_layer() -> None:
    text = dump(plan_of(XCONFIG))
    assert "affine tdnn1.affine(" in text
    assert "| tdnn1.relu | tdnn1.batchnorm" in text
    joined = next(line for line in text.splitlines() if "affine tdnnf2.affine(" in line)
    assert "| tdnnf2.relu | tdnnf2.batchnorm | + 0.66 %" in joined
    assert "append" not in text.split("tdnnf2.linear", 1)[1]
    assert "apply tdnnf2.relu" not in text


CONFIG = """
input-node name=input dim=5
component name=a type=NaturalGradientAffineComponent input-dim=5 output-dim=4
component-node name=a component=a input=input
component name=r type=RectifiedLinearComponent dim=4
component-node name=r component=r input=a
component name=b type=BatchNormComponent dim=4
component-node name=b component=b input=r
output-node name=output input=b
output-node name=other input={other}
"""


@pytest.mark.parametrize(
    ("other", "kinds"),
    [("r", ["Apply", "Apply"]), ("a", ["ReluBatchNorm"]), ("input", ["AffineBatchNorm"])],
)
def test_what_is_read_elsewhere_is_not_joined(other: str, kinds: list[str]) -> None:
    operations = plan_of(CONFIG.format(other=other)).operations
    found = [type(o).__name__ for o in operations]
    assert [kind for kind in found if kind not in ("Input", "SplicedAffine")] == kinds


def test_without_affine_transforms() -> None:
    passes = pipeline(test_mode=False, fused=True)
    assert FuseBatchNorm(affine=False) in passes
    plan = plan_of(XCONFIG, *passes)
    joined = [o for o in plan.operations if isinstance(o, ir.ReluBatchNorm)]
    assert [(o.relu, o.component, o.bypass_scale) for o in joined] == [
        ("tdnn1.relu", "tdnn1.batchnorm", 1.0),
        ("tdnnf2.relu", "tdnnf2.batchnorm", 0.66),
    ]
    assert "apply tdnnf2.relu(%" in dump(plan)
    assert "| tdnnf2.batchnorm | + 0.66 %" in dump(plan)


def test_batch_norm_in_test_mode_is_not_joined() -> None:
    network = nnet.build(XCONFIG)
    components = dict(network.components)
    for name in ("tdnn1.batchnorm", "tdnnf2.batchnorm"):
        components[name] = dataclasses.replace(components[name], test_mode=True)
    changed = dataclasses.replace(network, components=components)
    plan = run_passes(lower(changed, None), pipeline(test_mode=False))
    assert not any(isinstance(o, ir.AffineBatchNorm | ir.ReluBatchNorm) for o in plan.operations)


def test_hooks_on_a_unit_see_what_it_computes() -> None:
    module = nnet.compile(nnet.build(XCONFIG)).train()
    seen: list[torch.Tensor] = []
    module.components["tdnn1/relu"].register_forward_hook(lambda _, __, y: seen.append(y))
    module({"input": torch.randn(2, 20, 5)})
    assert len(seen) == 1
    assert (seen[0] >= 0).all()


def train(module: CompiledNetwork, net: str, minibatches: int) -> list[float]:
    """Objectives of the first golden minibatches."""
    torch.manual_seed(0)
    optimizer = NaturalGradientSGD(module, natural_gradient=False)
    objective = OutputObjectives.of(module.network)
    found = []
    for _, example in list(read_examples(f"ark:{GOLDEN / 'nets' / net / 'egs.ark'}"))[:minibatches]:
        minibatch = example_minibatch(example, module.network)
        optimizer.zero_grad()
        inputs = {name: rows.double() for name, rows in minibatch.inputs.items()}
        scores = objective(module(inputs, minibatch.request), minibatch)
        loss(scores).backward()
        optimizer.step(sequences=minibatch.sequences)
        found.append(scores["output"].total.item() / scores["output"].weight.item())
    return found


@pytest.mark.parametrize("net", NETS)
def test_golden_nets_train_through_it(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters and all statistics are those of the plan without it, in float64."""
    kind, has_bypass = NETS[net]
    network = read_model(GOLDEN / "nets" / net / "init.raw").network
    apart = [p for p in pipeline(test_mode=False) if not isinstance(p, FuseBatchNorm)]
    fused = nnet.compile(network).train().double()
    plain = nnet.compile(network, passes=apart).train().double()
    joined = [o for o in fused.plan.operations if isinstance(o, kind)]
    assert joined
    assert any(o.bypass for o in fused.plan.operations if hasattr(o, "relu")) == has_bypass
    calls = []
    made = ReluBatchNorm._made
    monkeypatch.setattr(ReluBatchNorm, "_made", lambda *a: calls.append(1) or made(*a))
    for module in (fused, plain):
        module.zero_stats()
    ours, theirs = train(fused, net, 2), train(plain, net, 2)
    assert len(calls) >= 2 * len(joined) - 2  # no objective needs one of those of tdnnf
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=1e-7, atol=1e-7)
    states = [dict(module.state_dict()) for module in (fused, plain)]
    for name, value in states[0].items():
        if isinstance(value, torch.Tensor):
            assert_near(value, states[1][name])
        else:
            for part, total in value["sums"].items():
                assert_near(total, states[1][name]["sums"][part])
            assert value["counts"] == pytest.approx(states[1][name]["counts"])


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    if expected.numel():
        assert (found - expected).norm() <= 1e-6 * max(1e-3, float(expected.norm()))
