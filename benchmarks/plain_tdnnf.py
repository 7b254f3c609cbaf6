"""The peer: a TDNN-F chain model written by hand in plain torch, as its papers describe it.

Nothing is folded or fused. It takes its numbers from a Kaldi model with the usual layer names (lda,
tdnn1, tdnnf2 ..., prefinal-l, prefinal-chain, output).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.plain_layers import FactoredLayers, Prefinal, ReluLayer, factored_layers
from nnet.graph.network import Network


class PlainTdnnf(nn.Module):
    """Features `(batch, time, 40)` and an i-vector `(batch, dim)` to `(batch, time / 3, pdfs)`.

    With `early`, the frames that the output leaves out are left out as early as the layers' offsets
    allow; otherwise every frame of every layer is computed, and the output is subsampled.
    """

    def __init__(
        self, network: Network, bypass_scale: float = 0.66, *, early: bool = False
    ) -> None:
        super().__init__()
        self.lda = nn.Parameter(torch.tensor(network.components["lda"].linear))
        self.lda_bias = nn.Parameter(torch.tensor(network.components["lda"].bias))
        self.tdnn1 = ReluLayer(network, "tdnn1")
        self.layers = FactoredLayers(
            network, factored_layers(network), bypass_scale, 3 if early else 1
        )
        self.prefinal = Prefinal(network, "prefinal-l")
        self.step = 1 if early else 3

    def forward(self, features: Tensor, ivector: Tensor) -> Tensor:
        frames = features.shape[1] - 2
        parts = [features[:, o : o + frames] for o in range(3)]
        spliced = torch.cat((*parts, ivector.unsqueeze(1).expand(-1, frames, -1)), dim=-1)
        x = self.tdnn1(functional.linear(spliced, self.lda, self.lda_bias))
        return self.prefinal(self.layers(x))[:, :: self.step]
