"""The peer: a TDNN-F chain model written by hand in plain torch, as its papers describe it.

Nothing is folded or fused, every frame of every layer is computed, and the output is subsampled at
the end. It takes its numbers from a Kaldi model with the usual layer names (lda, tdnn1, tdnnf2 ...,
prefinal-l, prefinal-chain, output).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnet.graph.network import Network


class Affine(nn.Module):
    """A splice of time offsets and an affine transform of it."""

    def __init__(self, spec) -> None:
        super().__init__()
        self.offsets = spec.window.offsets
        self.linear = nn.Parameter(torch.tensor(spec.linear))
        self.bias = None if spec.bias is None else nn.Parameter(torch.tensor(spec.bias))

    def forward(self, x: Tensor) -> Tensor:
        first, last = min(self.offsets), max(self.offsets)
        frames = x.shape[1] - (last - first)
        parts = [x[:, o - first : o - first + frames] for o in self.offsets]
        spliced = torch.cat(parts, dim=-1) if len(parts) > 1 else x
        return functional.linear(spliced, self.linear, self.bias)


class BatchNorm(nn.BatchNorm1d):
    def __init__(self, spec) -> None:
        super().__init__(len(spec.stats_mean), eps=spec.epsilon, affine=False)
        self.running_mean.copy_(torch.tensor(spec.stats_mean))
        self.running_var.copy_(torch.tensor(spec.stats_var))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).view(x.shape)


class FactoredLayer(nn.Module):
    """x -> linear -> affine -> ReLU -> batch-norm, plus 0.66 x."""

    def __init__(self, network: Network, name: str) -> None:
        super().__init__()
        parts = network.components
        self.linear = Affine(parts[f"{name}.linear"])
        self.affine = Affine(parts[f"{name}.affine"])
        self.norm = BatchNorm(parts[f"{name}.batchnorm"])
        self.left = -min(self.linear.offsets)
        self.right = max(self.affine.offsets)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.affine(self.linear(x)).relu())
        return y + 0.66 * x[:, self.left : x.shape[1] - self.right]


class PlainTdnnf(nn.Module):
    """Features `(batch, time, 40)` and an i-vector `(batch, dim)` to `(batch, time / 3, pdfs)`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        parts = network.components
        self.lda = nn.Parameter(torch.tensor(parts["lda"].linear))
        self.lda_bias = nn.Parameter(torch.tensor(parts["lda"].bias))
        self.tdnn1 = Affine(parts["tdnn1.affine"])
        self.norm1 = BatchNorm(parts["tdnn1.batchnorm"])
        numbers = [n for n in range(2, 100) if f"tdnnf{n}.linear" in parts]
        self.layers = nn.ModuleList(FactoredLayer(network, f"tdnnf{n}") for n in numbers)
        self.prefinal = nn.Sequential(
            Affine(parts["prefinal-l"]),
            Affine(parts["prefinal-chain.affine"]),
            nn.ReLU(),
            BatchNorm(parts["prefinal-chain.batchnorm1"]),
            Affine(parts["prefinal-chain.linear"]),
            BatchNorm(parts["prefinal-chain.batchnorm2"]),
            Affine(parts["output.affine"]),
        )

    def forward(self, features: Tensor, ivector: Tensor) -> Tensor:
        frames = features.shape[1] - 2
        parts = [features[:, o : o + frames] for o in range(3)]
        spliced = torch.cat((*parts, ivector.unsqueeze(1).expand(-1, frames, -1)), dim=-1)
        x = self.norm1(self.tdnn1(functional.linear(spliced, self.lda, self.lda_bias)).relu())
        for layer in self.layers:
            x = layer(x)
        return self.prefinal(x)[:, ::3]
