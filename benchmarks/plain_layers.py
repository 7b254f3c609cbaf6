"""Layers of the peers, hand-written in plain torch as papers describe them: nothing is folded.

They take their numbers from the components of a Kaldi network; rows are `(batch, time, dim)`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnet.graph.network import Network


class Affine(nn.Module):
    """A splice of time offsets, each `step` rows long, and an affine transform of it."""

    def __init__(self, spec: Any, offsets: tuple[int, ...] = (), step: int = 1) -> None:
        super().__init__()
        self.offsets = tuple(o // step for o in offsets or spec.window.offsets)
        self.linear = nn.Parameter(torch.tensor(spec.linear))
        bias = getattr(spec, "bias", None)
        self.bias = None if bias is None else nn.Parameter(torch.tensor(bias))

    def forward(self, x: Tensor) -> Tensor:
        first, last = min(self.offsets), max(self.offsets)
        frames = x.shape[1] - (last - first)
        parts = [x[:, o - first : o - first + frames] for o in self.offsets]
        spliced = torch.cat(parts, dim=-1) if len(parts) > 1 else x
        return functional.linear(spliced, self.linear, self.bias)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of rows by stored statistics, without trained scales."""

    def __init__(self, spec: Any) -> None:
        super().__init__(len(spec.stats_mean), eps=spec.epsilon, affine=False)
        self.running_mean.copy_(torch.tensor(spec.stats_mean))
        self.running_var.copy_(torch.tensor(spec.stats_var))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).view(x.shape)


class ReluLayer(nn.Sequential):
    """affine -> ReLU -> batch-norm: nnet3's relu-batchnorm-layer."""

    def __init__(self, network: Network, name: str, offsets: tuple[int, ...] = ()) -> None:
        parts = network.components
        affine = Affine(parts[f"{name}.affine"], offsets)
        super().__init__(affine, nn.ReLU(), BatchNorm(parts[f"{name}.batchnorm"]))


class FactoredLayer(nn.Module):
    """x -> linear -> affine -> ReLU -> batch-norm, plus `bypass_scale` x; rows are `step` apart."""

    def __init__(self, network: Network, name: str, bypass_scale: float, step: int = 1) -> None:
        super().__init__()
        parts = network.components
        self.linear = Affine(parts[f"{name}.linear"], step=step)
        self.affine = Affine(parts[f"{name}.affine"], step=step)
        self.norm = BatchNorm(parts[f"{name}.batchnorm"])
        self.left = -min(self.linear.offsets)
        self.right = max(self.affine.offsets)
        self.bypass_scale = bypass_scale

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.affine(self.linear(x)).relu())
        if not self.bypass_scale:
            return y
        return y + self.bypass_scale * x[:, self.left : x.shape[1] - self.right]


class FactoredLayers(nn.Module):
    """Factored layers `numbers`, named tdnnf2, tdnnf3, ...

    The rows of the output are `subsampling` frames apart, and so are those of all layers at the end
    whose offsets are multiples of it: nobody would compute more.
    """

    def __init__(
        self, network: Network, numbers: list[int], bypass_scale: float, subsampling: int = 1
    ) -> None:
        super().__init__()
        full = [n for n in numbers if not _divisible(network, f"tdnnf{n}", subsampling)]
        last = max(full, default=0)
        self.subsampling = subsampling
        self.full = nn.ModuleList(
            FactoredLayer(network, f"tdnnf{n}", bypass_scale) for n in numbers if n <= last
        )
        self.reduced = nn.ModuleList(
            FactoredLayer(network, f"tdnnf{n}", bypass_scale, subsampling)
            for n in numbers
            if n > last
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.full:
            x = layer(x)
        x = x[:, :: self.subsampling]
        for layer in self.reduced:
            x = layer(x)
        return x


def factored_layers(network: Network) -> list[int]:
    """The numbers of all factored layers."""
    return [n for n in range(100) if f"tdnnf{n}.linear" in network.components]


def _divisible(network: Network, name: str, step: int) -> bool:
    specs = (network.components[f"{name}.{part}"] for part in ("linear", "affine"))
    return all(offset % step == 0 for spec in specs for offset in spec.window.offsets)


class Prefinal(nn.Sequential):
    """Bottleneck, nnet3's prefinal-layer (affine -> ReLU -> norm -> linear -> norm), output."""

    def __init__(self, network: Network, bottleneck: str) -> None:
        parts = network.components
        super().__init__(
            Affine(parts[bottleneck]),
            Affine(parts["prefinal-chain.affine"]),
            nn.ReLU(),
            BatchNorm(parts["prefinal-chain.batchnorm1"]),
            Affine(parts["prefinal-chain.linear"]),
            BatchNorm(parts["prefinal-chain.batchnorm2"]),
            Affine(parts["output.affine"]),
        )
