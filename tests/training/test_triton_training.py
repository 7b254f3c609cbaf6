"""Training by our kernels, network and update, gives Kaldi's trained models too."""

import pytest
import torch

from nnet.modelfile.model import read_model
from nnet.modules.compiled import compile_network
from nnet.training.natural_sgd import NaturalGradientSGD
from tests.training.kaldi_training import GOLDEN, Log, change_errors, run

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize(
    "component", ["affine", "ng_affine", "lstm_nonlinearity", "gru_nonlinearity"]
)
def test_a_component_is_trained_as_kaldi_does(component: str) -> None:
    folder = GOLDEN / f"components/{component}__trained"
    torch.manual_seed(0)
    network = read_model(folder / "init.raw").network
    module = compile_network(network, kernels="triton").to(DEVICE).train()
    module.zero_stats()
    optimizer = NaturalGradientSGD(module, implementation="triton")
    trace = run(network, module, optimizer, folder / "egs.ark")
    theirs = read_model(folder / "trained.raw").network
    assert max(change_errors(network, module.to_network(), theirs).values()) < 1e-4
    assert trace.objective_error(Log.of(folder / "train.log").objectives) < 2e-5
