"""Recurrent networks in plain torch: the peers of benchmarks/recurrent_nets_cpu.py."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.plain_layers import Affine, ReluLayer
from benchmarks.plain_lstmp import PlainLstmp, torch_lstm
from nnet.graph.network import Network

Recurrent = Callable[[Network, str, int], nn.Module]
"""Makes the peer of a recurrent layer, from its name and delay."""


class TorchLstm(nn.Module):
    """torch's LSTM of equal size (delay 1, no peepholes); runs backward for a positive delay."""

    def __init__(self, network: Network, name: str, delay: int) -> None:
        super().__init__()
        gates, projection = (network.components[f"{name}.{part}"] for part in ("W_all", "W_rp"))
        dim = gates.input_dim - network.nodes[f"{name}.r"].dim
        self.lstm = torch_lstm(dim, gates.output_dim // 4, projection.output_dim)
        self.backward_in_time = delay > 0

    def forward(self, x: Tensor) -> Tensor:
        x = x.flip(1) if self.backward_in_time else x
        y: Tensor = self.lstm(x)[0]
        return y.flip(1) if self.backward_in_time else y


class Stepping(nn.Module):
    """The same cell as ours, a frame a step; runs backward for a positive delay."""

    def __init__(self, network: Network, name: str, delay: int) -> None:
        super().__init__()
        self.cell = PlainLstmp(network, abs(delay), name)
        self.backward_in_time = delay > 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.backward_in_time:
            result: Tensor = self.cell(x)
            return result
        return self.cell(x.flip(1)).flip(1)


class PlainTdnnLstm(nn.Module):
    """tdnn1 tdnn2 lstm1 tdnn3 lstm2 tdnn4 lstm3 output."""

    def __init__(self, network: Network, recurrent: Recurrent, delay: int) -> None:
        super().__init__()
        wide = (-3, 0, 3)
        self.layers = nn.Sequential(
            ReluLayer(network, "tdnn1", (-2, -1, 0, 1, 2)),
            ReluLayer(network, "tdnn2", (-1, 0, 1)),
            recurrent(network, "lstm1", delay),
            ReluLayer(network, "tdnn3", wide),
            recurrent(network, "lstm2", delay),
            ReluLayer(network, "tdnn4", wide),
            recurrent(network, "lstm3", delay),
            Affine(network.components["output.affine"]),
            nn.LogSoftmax(dim=-1),
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result


class PlainBlstm(nn.Module):
    """Three pairs of recurrent layers, one forward and one backward in time."""

    def __init__(self, network: Network, recurrent: Recurrent, delay: int) -> None:
        super().__init__()
        self.forwards = nn.ModuleList(recurrent(network, f"f{n}", delay) for n in (1, 2, 3))
        self.backwards = nn.ModuleList(recurrent(network, f"b{n}", -delay) for n in (1, 2, 3))
        self.output = nn.Sequential(Affine(network.components["output.affine"]), nn.LogSoftmax(-1))

    def forward(self, x: Tensor) -> Tensor:
        for one, other in zip(self.forwards, self.backwards, strict=True):
            x = torch.cat((one(x), other(x)), dim=-1)
        result: Tensor = self.output(x)
        return result
