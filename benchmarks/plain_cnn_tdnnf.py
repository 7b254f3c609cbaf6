"""The peer: configs/cnn_tdnnf.xconfig by hand in plain torch, with images as Conv2d has them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.plain_layers import Affine, BatchNorm, FactoredLayers, Prefinal, factored_layers
from nnet.graph.network import Network


class ConvolutionLayer(nn.Sequential):
    """Convolution over (time, height) -> ReLU -> batch-norm by filter; the same height, or half."""

    def __init__(self, network: Network, name: str) -> None:
        spec: Any = network.components[f"{name}.conv"]
        norm: Any = network.components[f"{name}.batchnorm"]
        times = len(spec.time_offsets)
        heights = len(spec.offsets) // times
        step = (1, spec.height_subsample_out)
        convolution = nn.Conv2d(
            spec.num_filters_in, spec.num_filters_out, (times, heights), step, padding=(0, 1)
        )
        blocks = spec.linear.reshape(-1, times, heights, spec.num_filters_in)
        normalized = nn.BatchNorm2d(norm.block_dim, eps=norm.epsilon, affine=False)
        with torch.no_grad():
            convolution.weight.copy_(torch.tensor(blocks).permute(0, 3, 1, 2))
            convolution.bias.copy_(torch.tensor(spec.bias))
            normalized.running_mean.copy_(torch.tensor(norm.stats_mean))
            normalized.running_var.copy_(torch.tensor(norm.stats_var))
        super().__init__(convolution, nn.ReLU(), normalized)


class PlainCnnTdnnf(nn.Module):
    """Features `(batch, time, 40)` and an i-vector `(batch, 100)` to `(batch, time / 3, pdfs)`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        parts: Any = network.components
        self.mel = Affine(parts["mel"])
        self.mel_norm = BatchNorm(parts["mel-batchnorm"])
        self.ivector = nn.Parameter(torch.tensor(parts["ivector-linear"].linear))
        norm = parts["ivector-batchnorm"]
        self.ivector_norm = BatchNorm(norm)
        self.ivector_rms = norm.target_rms
        self.convolutions = nn.Sequential(
            *(ConvolutionLayer(network, f"cnn{n}") for n in range(1, 6))
        )
        self.first = FactoredLayers(network, [6], 0.0)
        self.layers = FactoredLayers(network, factored_layers(network)[1:], 0.75, 3)
        self.prefinal = Prefinal(network, "bottleneck")

    def forward(self, features: Tensor, ivector: Tensor) -> Tensor:
        batch, frames, _ = features.shape
        mel = self.mel_norm(self.mel(features)).unsqueeze(1)  # (batch, 1, time, height)
        vector = self.ivector_norm((ivector @ self.ivector.t()).unsqueeze(1)) * self.ivector_rms
        planes = vector.view(batch, 40, 1, 5).permute(0, 3, 2, 1).expand(-1, -1, frames, -1)
        image = torch.cat((mel, planes), dim=1).contiguous(memory_format=torch.channels_last)
        image = self.convolutions(image)
        rows = image.permute(0, 2, 3, 1).flatten(2)
        return self.prefinal(self.layers(self.first(rows)))
