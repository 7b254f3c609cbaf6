"""Training by our kernels, network and update, gives Kaldi's trained models too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from nnet.data.example_minibatch import example_minibatch
from nnet.data.examples import read_examples
from nnet.kernels.gpu import Configuration, Grid, Kernel
from nnet.modelfile.model import read_model
from nnet.runtime.compiled import compile_network
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD
from nnet.training.objectives import OutputObjectives, loss
from nnet.training.optimizers import OPTIMIZERS
from nnet.training.options import TrainingOptions
from tests.training.kaldi_training import GOLDEN, Log, change_errors, run, start

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
UNDETERMINED = {"batchnorm": ["pre.bias"]}


COMPONENTS = (
    "affine",
    "ng_affine",
    "ng_repeated_affine",
    "scale_and_offset",
    "tdnn",
    "batchnorm",
    "normalize",
    "time_height_convolution_subsample",
    "restricted_attention",
    "composite",
    "lstm_nonlinearity",
    "gru_nonlinearity",
    "gru_nonlinearity_projected",
    "output_gru_nonlinearity",
)
"""Those with kernels of their own, and with most of what the update does."""


@pytest.fixture(autouse=True)
def large_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes as long for a small block as for a large one."""
    run = Kernel._run

    def run_large(
        self: Kernel, choice: Configuration, grid: Grid, arguments: Mapping[str, Any]
    ) -> None:
        if choice is self.interpreted:
            choice = Configuration({name: max(n, 128) for name, n in choice.constants.items()})
        run(self, choice, grid, arguments)

    monkeypatch.setattr(Kernel, "_run", run_large)


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_is_trained_as_kaldi_does(component: str) -> None:
    folder = GOLDEN / f"components/{component}__trained"
    torch.manual_seed(0)
    network, module = start(folder, kernels="triton")
    module.to(DEVICE)
    optimizer = NaturalGradientSGD(module, implementation="triton")
    trace = run(network, module, optimizer, folder / "egs.ark")
    theirs = read_model(folder / "trained.raw").network
    undetermined = UNDETERMINED.get(component, ())
    errors = change_errors(network, module.to_network(), theirs, undetermined)
    assert max(errors.values()) < 1e-4
    assert trace.objective_error(Log.of(folder / "train.log").objectives) < 2e-5


@pytest.mark.parametrize("kernels", ["reference", "triton"])
def test_the_bias_before_batch_norm_has_no_gradient_but_rounding(kernels: str) -> None:
    """Why its change cannot be compared: in float64 the derivative is 0 as far as that goes."""
    folder = GOLDEN / "components/batchnorm__trained"
    network = read_model(folder / "init.raw").network
    (_, example), *_ = read_examples(f"ark:{folder / 'egs.ark'}")
    minibatch = example_minibatch(example, network)
    norms = {}
    for dtype, chosen in ((torch.float64, "reference"), (torch.float32, kernels)):
        device = DEVICE if chosen == "triton" else "cpu"
        module = compile_network(network, kernels=chosen).to(device, dtype).train()
        batch = minibatch.each(lambda t: t.to(device, dtype if t.is_floating_point() else t.dtype))  # noqa: B023
        outputs = module(batch.inputs, batch.request)
        loss(OutputObjectives.of(network)(outputs, batch)).backward()
        gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        bias = gradients["components.pre.bias"].norm()
        norms[dtype] = float(bias / gradients["components.pre.linear"].norm())
    assert norms[torch.float64] < 1e-14
    assert norms[torch.float32] < 1e-5
    theirs = read_model(folder / "trained.raw").network.components["pre"]
    change = np.linalg.norm(theirs.bias - network.components["pre"].bias)
    assert change < 1e-6 * np.linalg.norm(theirs.linear)


@pytest.mark.parametrize(
    ("kernels", "expected"), [("auto", None), ("reference", "reference"), ("triton", "triton")]
)
def test_the_kernels_option_reaches_the_optimizer(kernels: str, expected: str | None) -> None:
    module = compile_network(read_model(GOLDEN / "components/affine__trained/init.raw")).train()
    options = TrainingOptions(optimizer="natural-gradient", kernels=kernels)
    optimizer = OPTIMIZERS["natural-gradient"].make(module, options)
    assert isinstance(optimizer, NaturalGradientSGD)
    assert optimizer.implementation == (expected or "reference")  # parameters are on the CPU
