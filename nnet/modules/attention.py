"""Attention over a few frames around each output frame."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnet.kernels.attention.reference import Heads, restricted_attention
from nnet.modules.base import WindowModule, indexed
from nnet.modules.registry import implements
from nnet.modules.statistics import SumsModule, chance
from nnet.plan.windows import WindowRows

STORE_PROBABILITY = 2 / 3
POSTERIOR_FLOOR = 1e-20


@implements("RestrictedAttentionComponent")
class RestrictedAttention(SumsModule, WindowModule):
    """See the specification; frames that are not there count as zeros, also in the softmax."""

    stats_count: Tensor
    entropy_stats: Tensor
    posterior_stats: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.keep_sum("stats_count", spec.stats_count)
        shape = (spec.num_heads, spec.context_dim)
        for name, size in (("entropy_stats", shape[:1]), ("posterior_stats", shape)):
            stored = torch.tensor(getattr(spec, name))
            self.keep_sum(name, stored if stored.numel() else torch.zeros(size))

    def windowed(self, x: Tensor, rows: WindowRows) -> Tensor:
        spec = self.spec
        sizes = (spec.num_heads, spec.key_dim, spec.value_dim, spec.context_dim)
        heads = Heads(*sizes, spec.num_left_inputs, spec.key_scale)
        result, weights = restricted_attention(
            x, heads, indexed(rows), implementation=self.implementation
        )
        self._store(weights)
        if spec.output_context:
            result = torch.cat((result, weights), dim=-1)
        return result.flatten(-2)

    @torch.no_grad()
    def _store(self, weights: Tensor) -> None:
        """Adds up weights and entropies, in two of three minibatches."""
        if not self.storing or chance() > STORE_PROBABILITY:
            return
        rows = weights.detach().flatten(0, 1)
        entropy = -(rows * rows.clamp_min(POSTERIOR_FLOOR).log()).sum(dim=(0, 2))
        self.add_to_sums(
            stats_count=len(rows), entropy_stats=entropy, posterior_stats=rows.sum(dim=0)
        )

    def stored(self) -> dict[str, Any]:
        return {
            "stats_count": float(self.stats_count),
            "entropy_stats": self.entropy_stats.cpu().double().numpy().copy(),
            "posterior_stats": self.posterior_stats.cpu().double().numpy().copy(),
        }
