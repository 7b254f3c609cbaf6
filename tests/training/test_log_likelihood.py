"""A log-softmax that is left to the objective trains as one that is made, and makes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nnet.data.minibatch import DenseTargets, Minibatch, SparseTargets, Targets
from nnet.graph.build import build_network
from nnet.graph.network import Network
from nnet.modules import statistics
from nnet.plan import ir
from nnet.runtime.compiled import CompiledNetwork, compile_network
from nnet.runtime.logits import Logits
from nnet.text.parse import parse_config
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD
from nnet.training.objectives import OutputObjectives, Scores, loss
from nnet.training.scoring import Scorer, average_posterior
from tests.training.tape import tensors

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CONFIG = """
input-node name=input dim=5
component name=a type=NaturalGradientAffineComponent input-dim=5 output-dim=8
component-node name=a component=a input=input
component name=relu type=RectifiedLinearComponent dim=8
component-node name=relu component=relu input=a
component name=out type=NaturalGradientAffineComponent input-dim=8 output-dim=70
component-node name=out component=out input=relu
component name=sm type=LogSoftmaxComponent dim=70
component-node name=sm component=sm input=out
output-node name=output input=sm
component name=second type=NaturalGradientAffineComponent input-dim=8 output-dim=7
component-node name=second component=second input=relu
component name=second-sm type=LogSoftmaxComponent dim=7
component-node name=second-sm component=second-sm input=second
output-node name=output-2 input=second-sm
"""
NAMES = ("output", "output-2")


def network(more: str = "") -> Network:
    return build_network(parse_config(CONFIG + more), rng=np.random.default_rng(1))


def minibatch(module: CompiledNetwork, kind: str) -> Minibatch:
    generator = torch.Generator().manual_seed(0)
    request = module.chunk_request(6, outputs=NAMES)
    targets: dict[str, Targets] = {}
    for name, dim in zip(NAMES, (70, 7), strict=True):
        weights = torch.rand(3, 6, 1 if kind == "alignment" else 4, generator=generator)
        weights[1, 2] = 0.0  # a frame without a target
        ids = torch.randint(0, dim, weights.shape, generator=generator)
        targets[name] = SparseTargets(ids, weights)
        if kind == "matrix":
            values = torch.zeros(3, 6, dim).scatter_add(2, ids, weights)
            targets[name] = DenseTargets(values, torch.rand(3, 6, generator=generator))
    features = torch.randn(3, 6, 5, generator=generator)
    return Minibatch(request, {"input": features}, targets, 3).to(torch.device(DEVICE))


def trained(kind: str, kernels: str, left: tuple[str, ...]) -> tuple[list[Scores], CompiledNetwork]:
    """Two steps of training."""
    torch.manual_seed(0)
    given = network()
    module = compile_network(given, kernels=kernels, log_likelihoods=left).to(DEVICE).train()
    optimizer = NaturalGradientSGD(module)
    scorer = Scorer(module, OutputObjectives.of(given))
    batch, found = minibatch(module, kind), []
    for _ in range(2):
        optimizer.zero_grad()
        scores = scorer(batch)
        loss(scores).backward()
        optimizer.step(sequences=3)
        found.append(scores)
    return found, module


@pytest.mark.parametrize("kernels", ["reference", "triton"])
@pytest.mark.parametrize("kind", ["alignment", "posterior", "matrix"])
def test_training_is_the_same(kind: str, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "chance", lambda: 0.0)  # all statistics are stored
    expected, made = trained(kind, "reference", ())
    found, left = trained(kind, kernels, NAMES)
    for ours, theirs in zip(found, expected, strict=True):
        for name in NAMES:
            torch.testing.assert_close(ours[name].total, theirs[name].total, rtol=1e-5, atol=0)
            assert torch.equal(ours[name].weight, theirs[name].weight)
            assert torch.equal(ours[name].correct, theirs[name].correct)
    for name, parameter in made.named_parameters():
        torch.testing.assert_close(left.get_parameter(name), parameter, rtol=1e-4, atol=1e-6)
    ours, theirs = (m.to_network().components["sm"] for m in (left, made))
    assert ours.oderiv_count == theirs.oderiv_count > 0
    np.testing.assert_allclose(ours.oderiv_rms, theirs.oderiv_rms, rtol=1e-5)


class LargeResults(TorchDispatchMode):
    """Counts the results of operations that have a row of pdfs for each frame, beside views."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {t.untyped_storage().data_ptr() for t in tensors(args)}
        for tensor in tensors((result,)):
            is_new = tensor.untyped_storage().data_ptr() not in given
            if is_new and tensor.numel() >= 18 * 70:
                self.names.append(func.__name__)
        return result


def test_nothing_but_the_logits_is_made_and_their_derivative_takes_their_place() -> None:
    given = network()
    module = compile_network(given, kernels="triton", log_likelihoods=NAMES).to(DEVICE).train()
    batch = minibatch(module, "alignment")
    with LargeResults() as large:
        loss(Scorer(module, OutputObjectives.of(given))(batch)).backward()
    assert large.names == ["spliced_affine.default"]


def test_nor_is_anything_made_for_targets_that_are_listed() -> None:
    """As LF-MMI has them for its regularizer: some elements of (time, batch, dim)."""
    module = compile_network(network(), kernels="triton", log_likelihoods=NAMES).to(DEVICE).train()
    batch = minibatch(module, "alignment")
    output = module.outputs(batch.inputs, batch.request)["output"]
    assert isinstance(output, Logits)
    log_softmax = output.rows.detach().log_softmax(-1)
    positions = torch.tensor([3, 800, 18 * 70 - 1, 3], device=DEVICE)
    weights = torch.tensor([0.5, 1.0, 0.25, 2.0], device=DEVICE)
    with LargeResults() as large:
        found = output.listed_log_likelihood(positions, weights).objective
        found.sum().backward()
    assert large.names == []
    expected = torch.zeros(18 * 70, device=DEVICE).index_add_(0, positions, weights)
    expected = (expected.view(log_softmax.shape) * log_softmax).sum(-1).t()
    torch.testing.assert_close(found.detach(), expected)


def left_of(more: str, names: tuple[str, ...] = NAMES) -> list[str]:
    """The log-softmax components that a plan leaves to objectives."""
    module = compile_network(network(more), log_likelihoods=names)
    return sorted(o.component for o in module.plan.operations if isinstance(o, ir.Logits))


def test_what_is_left_to_the_objective() -> None:
    assert left_of("") == ["second-sm", "sm"]
    assert left_of("", ("output-2",)) == ["second-sm"]
    assert left_of("output-node name=more input=sm") == ["second-sm"]  # another reader
    assert left_of("output-node name=more input=Scale(2.0, sm)") == ["second-sm"]
    scaled = CONFIG.replace("output input=sm", "output input=Scale(0.5, sm)")
    module = compile_network(
        build_network(parse_config(scaled), rng=np.random.default_rng(1)), log_likelihoods=NAMES
    )
    kinds = [type(module.plan.operations[value]) for _, value in module.plan.results]
    assert kinds == [ir.Sum, ir.Logits]


def test_logits_that_something_else_reads_keep_their_values() -> None:
    more = "output-node name=before input=out objective=quadratic"
    module = compile_network(network(more), log_likelihoods=NAMES)
    batch = minibatch(module, "alignment")
    outputs = module.outputs(batch.inputs, module.chunk_request(6))
    assert [isinstance(outputs[name], Logits) for name in (*NAMES, "before")] == [True, True, False]
    assert [outputs[name].consume for name in NAMES] == [False, True]


def test_the_module_and_the_priors_see_the_outputs_themselves() -> None:
    given = network()
    plain, left = (compile_network(given, log_likelihoods=names) for names in ((), NAMES))
    batch = minibatch(plain, "alignment")
    expected, found = (m(batch.inputs, batch.request) for m in (plain, left))
    each = left.forward_each([{"input": batch.inputs["input"][0]}], [batch.request])
    for name in NAMES:
        torch.testing.assert_close(found[name], expected[name])
        torch.testing.assert_close(each[0][name], expected[name][0])
    scorer = Scorer(left, OutputObjectives.of(given))
    priors = average_posterior(scorer, "output-2", [batch])
    wanted = expected["output-2"].exp().flatten(0, 1).mean(0).double()
    torch.testing.assert_close(priors, wanted, rtol=1e-5, atol=1e-7)
