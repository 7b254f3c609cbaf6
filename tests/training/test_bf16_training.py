"""Training in bfloat16 comes as near to Kaldi as its rounding allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from nnet.errors import NnetError
from nnet.graph.network import Network
from nnet.modelfile.model import read_model
from nnet.runtime.compiled import CompiledNetwork
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD
from nnet.training.natural_gradient.vectors import Vectors
from tests.training.kaldi_training import GOLDEN, Log, Trace, change_errors, run, start

FOLDER = GOLDEN / "training/frame_level"
Run = Callable[..., Path]
EPSILON = 2.0**-9
"""By which a number is rounded to bfloat16, at most, as a share of it."""


def train(network: Network, module: CompiledNetwork, bf16: bool) -> Trace:
    plain = module.outputs

    def rounded(*arguments: object) -> object:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return plain(*arguments)

    with patch.object(module, "outputs", rounded):
        return run(network, module, NaturalGradientSGD(module), FOLDER / "egs.ark")


def moved_by_rounding(seed: int) -> dict[str, float]:
    """How far training in float32 moves if initial parameters are rounded as bfloat16 would."""
    network, module = start(FOLDER / "plain")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1 + EPSILON * (2 * torch.rand(parameter.shape, generator=generator) - 1))
    train(network, module, bf16=False)
    return change_errors(network, module.to_network(), trained())


def trained() -> Network:
    return read_model(FOLDER / "plain/trained.raw").network


def test_golden_training_comes_as_near_as_rounding_lets_it() -> None:
    network, module = start(FOLDER / "plain")
    trace = train(network, module, bf16=True)
    objectives = Log.of(FOLDER / "plain/train.log").objectives
    assert trace.objective_error(objectives) < 5e-3  # 3.3e-3 here
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    found = change_errors(network, module.to_network(), trained())
    moved = [moved_by_rounding(seed) for seed in range(3)]
    for name, error in found.items():
        assert error < 3 * max(trial[name] for trial in moved) + 0.01, name


def test_sums_over_frames_that_belong_together_fit() -> None:
    """By hundredths of what bfloat16 rounds to; directions of little power would be lost else."""
    generator = torch.Generator().manual_seed(1)
    basis = torch.logspace(0, -2, 24).diag() @ torch.randn(24, 60, generator=generator)
    rows = torch.randn(40, 80, 24, generator=generator) @ basis
    w = torch.linalg.qr(basis.t()).Q.t()[:16]
    vectors = Vectors([(rows.bfloat16(), 0.7)], ones=True)
    whole = torch.cat((w, torch.zeros(16, 1)), dim=1).contiguous()
    h = vectors.projected(whole)
    j = vectors.weighted(h)
    h_h = (h.t() @ h).double()
    scale = h_h.diagonal().rsqrt()
    difference = (j.double() @ whole.double().t() - h_h) * scale[:, None] * scale
    assert difference.abs().max() < 3e-4
    np.testing.assert_allclose(vectors.power(), vectors.scatter().double().trace(), rtol=1e-4)


def test_it_needs_hardware(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnet.runtime.device.has_bf16", lambda: False)
    with pytest.raises(NnetError, match=r"bf16 needs a CPU with units for bfloat16 .*; leave out"):
        run("out", bf16=True)
