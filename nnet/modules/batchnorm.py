"""Batch normalisation (Ioffe & Szegedy 2015) as nnet3 defines it: no trained scale or offset."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from nnet.errors import NnetError
from nnet.kernels.normalization.batch_norm import batch_norm, merge_statistics
from nnet.modules.base import ComponentModule
from nnet.modules.registry import implements
from nnet.plan.times import Times


@implements("BatchNormComponent")
class BatchNorm(ComponentModule):
    """y = (x - mean) * target_rms / sqrt(variance + epsilon), by column of a block.

    In training mode mean and variance are the minibatch's, over all its rows; they are merged into
    the stored statistics `count` (rows), `stats_mean` and `stats_var` (block_dim,). In evaluation
    mode, or if the model file says test-mode, the stored statistics are used.
    """

    count: Tensor
    stats_mean: Tensor
    stats_var: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.register_buffer("count", torch.tensor(float(spec.count)))
        for name in ("stats_mean", "stats_var"):
            stored = getattr(spec, name)
            values = torch.tensor(stored) if len(stored) else torch.zeros(spec.block_dim)
            self.register_buffer(name, values)
        self._changed = False

    def forward(self, x: Tensor, times: Times) -> Tensor:
        blocks = x.reshape(-1, self.spec.block_dim)
        if self.uses_minibatch:
            return self._by_minibatch(blocks).reshape(x.shape)
        if not self.count:
            raise NnetError(
                "a batch-norm component has no statistics (its count is 0), so it cannot be used "
                "in test mode; train the network first"
            )
        scale = self.spec.target_rms * (self.stats_var.clamp_min(0) + self.spec.epsilon).rsqrt()
        return torch.addcmul(-self.stats_mean * scale, blocks, scale).reshape(x.shape)

    def _by_minibatch(self, blocks: Tensor) -> Tensor:
        result, mean, variance = batch_norm(
            blocks, self.spec.target_rms, self.spec.epsilon, implementation=self.implementation
        )
        self.merge(mean, variance, blocks.shape[0])
        return result

    @property
    def uses_minibatch(self) -> bool:
        """Whether rows are normalised by their own statistics."""
        return self.training and not self.spec.test_mode

    def merge(self, mean: Tensor, variance: Tensor, rows: int) -> None:
        """Merges the statistics `(block_dim,)` of so many rows into the stored ones."""
        stored = (self.count, self.stats_mean, self.stats_var)
        other = (mean, variance)
        merge_statistics(stored, other, rows, implementation=self.implementation)
        self._changed = True

    def zero_stats(self) -> None:
        """Forgets the stored statistics: count, mean and variance are zero."""
        for buffer in (self.count, self.stats_mean, self.stats_var):
            buffer.zero_()
        self._changed = True

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._changed = True
        super()._load_from_state_dict(*args, **kwargs)

    def to_spec(self) -> Any:
        """The specification with the statistics so far; unchanged ones keep the file's bits."""
        if not self._changed:
            return self.spec
        return dataclasses.replace(
            self.spec,
            count=float(self.count),
            stats_mean=self.stats_mean.cpu().float().numpy().copy(),
            stats_var=self.stats_var.cpu().float().numpy().copy(),
        )
