"""The peer: configs/xvector.xconfig written by hand in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.plain_layers import Affine, ReluLayer
from nnet.graph.network import Network

SPLICES = {"tdnn1": (-2, -1, 0, 1, 2), "tdnn2": (-2, 0, 2), "tdnn3": (-3, 0, 3)}


class PlainXvector(nn.Module):
    """Features `(batch, time, 30)` to log-probabilities of speakers `(batch, 1, speakers)`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        names = [f"tdnn{n}" for n in range(1, 6)]
        self.frames = nn.Sequential(
            *(ReluLayer(network, name, SPLICES.get(name, (0,))) for name in names)
        )
        pooling = next(s for s in network.components.values() if "Pooling" in s.type_name)
        self.variance_floor = pooling.variance_floor
        self.utterance = nn.Sequential(
            ReluLayer(network, "embedding6"),
            ReluLayer(network, "embedding7"),
            Affine(network.components["output.affine"]),
            nn.LogSoftmax(dim=-1),
        )

    def forward(self, features: Tensor) -> Tensor:
        rows = self.frames(features)
        mean = rows.mean(dim=1, keepdim=True)
        variance = rows.var(dim=1, keepdim=True, correction=0).clamp_min(self.variance_floor)
        return self.utterance(torch.cat((mean, variance.sqrt()), dim=-1))
