"""Components that limit the derivative on its way back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from nnet.kernels.cells.limit_cpu import LIBRARY, NativeLimit
from nnet.kernels.native_rows import runs_natively, step_ranges
from nnet.modules.base import Split, StepFunction, StepGradients
from nnet.modules.registry import implements
from nnet.modules.statistics import REPAIR_PROBABILITY, SumsModule, chance
from nnet.plan.times import IntArray, Times


class LimitsGradient(SumsModule):
    """A component whose derivative is `derivative`, not that of what it computes."""

    recordable = False  # the host works out where boundaries are, and how often it was clipped

    def value(self, x: Tensor) -> Tensor:
        """What the component computes without a derivative: rows `(time, batch, dim)` from rows `x`
        like them."""
        return x

    def forward(self, x: Tensor, times: Times) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            result: Tensor = _Limited.apply(x, self, times)
            return result
        return self.value(x)

    @torch.no_grad()
    def forward_into(self, x: Tensor, times: Times, out: Tensor) -> None:
        out.copy_(self.value(x))

    @torch.no_grad()
    def forward_in_steps(
        self, x: Sequence[Tensor], out: Tensor, split: Split, *, keep: bool, overwrite: bool
    ) -> StepFunction | None:
        columns = out.split([block.shape[2] for block in x], dim=-1)
        blocks = list(zip(map(split, x), map(split, columns), strict=True))

        def step(number: int) -> None:
            for sources, results in blocks:
                results[number].copy_(self.value(sources[number]))

        return step


class _Limited(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, module: LimitsGradient, times: Times) -> Tensor:
        ctx.save_for_backward(x)
        ctx.module, ctx.times = module, times
        result = module.value(x)
        return result.view_as(x) if result is x else result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return ctx.module.derivative(x, x, gradient, ctx.times), None, None


def _norms(rows: Tensor) -> Tensor:
    """The 2-norms of rows, with a last dimension of 1."""
    return torch.linalg.vector_norm(rows, dim=-1, keepdim=True)


@implements("BackpropTruncationComponent")
class BackpropTruncation(LimitsGradient):
    """y = scale x; a row's derivative is scaled down to a norm, or set to zero at boundaries.

    A row is at a boundary if the recurrence comes from the other side of a multiple of the zeroing
    interval, counted from the frame that is the number of the sequence in the batch.
    """

    count: Tensor
    num_clipped: Tensor
    num_zeroed: Tensor
    count_zeroing_boundaries: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        for name in ("count", "num_clipped", "num_zeroed", "count_zeroing_boundaries"):
            self.keep_sum(name, getattr(spec, name))

    def value(self, x: Tensor) -> Tensor:
        return x if self.spec.scale_factor == 1.0 else x * self.spec.scale_factor

    def boundaries(self, times: Times, batch: int) -> np.ndarray:
        """Which rows are at boundaries, (time, batch)."""
        frames: IntArray = times.array()[:, None] - np.arange(batch)
        interval, delay = self.spec.zeroing_interval, self.spec.recurrence_interval
        crossed: np.ndarray = frames // interval != (frames - delay) // interval
        return crossed

    def count_norms(self, norms: Tensor, times: Times) -> None:
        """Stores statistics of the norms `(time, batch, 1)` of rows that were truncated."""
        if self.storing:
            self._clipped(norms)
            self._zeroed(norms, times)

    @torch.no_grad()
    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        gradient = self.value(gradient)
        norms = _norms(gradient)
        clipped = self._clipped(norms)
        zeroed = self._zeroed(norms, times)
        if clipped is not None:
            gradient = gradient * clipped
        if zeroed is not None:
            gradient = gradient * ~zeroed
        return gradient

    @torch.no_grad()
    def derivative_in_steps(
        self, forward: StepFunction | None, gradients: StepGradients
    ) -> StepFunction | None:
        given, split = gradients.output, gradients.split
        scale, batch = self.spec.scale_factor, given.shape[1]
        boundaries = torch.from_numpy(self.boundaries(gradients.times, batch)).to(given.device)
        native = self.implementation == "native"
        if native and runs_natively(LIBRARY, given, *gradients.targets):
            return _NativeTruncation(self, gradients, boundaries)
        threshold = self.spec.clipping_threshold
        if self.storing or threshold <= 0:
            return None
        of_steps, widths = split(given), [target.shape[2] for target in gradients.targets]
        targets = list(zip(map(split, gradients.targets), gradients.alone, strict=True))
        at: Sequence[Tensor | None] = [None] * len(of_steps)
        if self.spec.zeroing_threshold > 0:
            at = [part if part.any() else None for part in split(boundaries.unsqueeze(-1))]

        def step(number: int) -> None:
            rows, boundaries = of_steps[number], at[number]
            norms = _norms(rows).mul_(abs(scale))
            factors = (norms / threshold).clamp_min_(1).reciprocal_().mul_(scale)
            if boundaries is not None:
                factors.masked_fill_(boundaries & (norms > self.spec.zeroing_threshold), 0.0)
            for (places, written), part in zip(targets, rows.split(widths, -1), strict=True):
                if written:
                    torch.mul(part, factors, out=places[number])
                else:
                    places[number].addcmul_(part, factors)

        return step

    def _clipped(self, norms: Tensor) -> Tensor | None:
        """The factor on each row that keeps its norm below the threshold."""
        threshold = self.spec.clipping_threshold
        ratio = norms / threshold if threshold > 0 else None
        if self.storing:
            number = 0 if ratio is None else (ratio > 1).sum()
            self.add_to_sums(count=norms.numel(), num_clipped=number)
        return None if ratio is None else ratio.clamp_min_(1).reciprocal_()

    def _zeroed(self, norms: Tensor, times: Times) -> Tensor | None:
        """Which rows are set to zero."""
        boundaries = self.boundaries(times, norms.shape[1])
        number = int(boundaries.sum())
        threshold = self.spec.zeroing_threshold
        zeroed = None
        if number and threshold > 0:
            at = torch.from_numpy(boundaries).to(norms.device).unsqueeze(-1)
            zeroed = at & (norms > threshold)
        if self.storing:
            rows = 0 if zeroed is None else zeroed.sum()
            self.add_to_sums(count_zeroing_boundaries=number, num_zeroed=rows)
        return zeroed

    def stored(self) -> dict[str, Any]:
        return {name: float(getattr(self, name)) for name in self._sums}


class _NativeTruncation:
    """The derivative of a truncation in a loop, in one pass over memory a step."""

    def __init__(
        self,
        module: BackpropTruncation,
        gradients: StepGradients,
        boundaries: Tensor,
    ) -> None:
        spec = module.spec
        self.module = module
        self.boundaries = boundaries
        self.native = NativeLimit(
            gradients.output,
            gradients.targets,
            boundaries if spec.zeroing_threshold > 0 else None,
            scale=spec.scale_factor,
            clipping=spec.clipping_threshold or math.inf,
            zeroing=spec.zeroing_threshold,
            adds=[not alone for alone in gradients.alone],
        )
        self.ranges = step_ranges(gradients.output, gradients.split(gradients.output))

    def __call__(self, number: int) -> None:
        self.native.limit(*self.ranges[number])

    def parameter_gradients(self) -> Sequence[Tensor | None]:
        """There are none; stores the statistics of all steps."""
        if self.module.storing:
            clipped, zeroed = self.native.counts
            self.module.add_to_sums(
                count=self.boundaries.numel(),
                num_clipped=clipped,
                count_zeroing_boundaries=int(self.boundaries.sum()),
                num_zeroed=zeroed,
            )
        return []


@implements("ClipGradientComponent")
class ClipGradient(LimitsGradient):
    """y = x; rows' derivatives are scaled down to a norm, or elements cut off.

    Where too many rows were clipped, self-repair adds in half of the minibatches a term that pulls
    large inputs to the target, of a size that is relative to the derivatives and the share of
    clipped rows; the mean norm of the rows stays what it was.
    """

    count: Tensor
    num_clipped: Tensor
    num_self_repaired: Tensor
    num_backpropped: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        for name in ("count", "num_clipped", "num_self_repaired", "num_backpropped"):
            self.keep_sum(name, getattr(spec, name))

    @torch.no_grad()
    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        threshold = self.spec.clipping_threshold
        if threshold == 0:
            return torch.zeros_like(gradient)
        share = float(self.num_clipped / self.count) if self.storing and self.count else 0.0
        if self.spec.norm_based_clipping:
            ratio = _norms(gradient) / threshold
            if self.storing:
                self.add_to_sums(count=ratio.numel(), num_clipped=(ratio > 1).sum())
            gradient = gradient * ratio.clamp_min_(1).reciprocal_()
        else:
            gradient = gradient.clamp(-threshold, threshold)
        if self.storing:
            self.add_to_sums(num_backpropped=1)
            gradient = self._repaired(x, gradient, share)
        return gradient

    def _repaired(self, x: Tensor, gradient: Tensor, share: float) -> Tensor:
        spec = self.spec
        limit = spec.self_repair_clipped_proportion_threshold
        if limit >= 1 or not spec.self_repair_scale or chance() > REPAIR_PROBABILITY:
            return gradient
        if share <= limit:
            return gradient
        self.add_to_sums(num_self_repaired=1)
        repair = _shrunk(x, spec.self_repair_target)
        size, total = _norms(repair).mean(), _norms(gradient).sum()
        magnitude = spec.self_repair_scale * share * _norms(gradient).mean()
        scale = torch.where(size > 0, magnitude / size, 0.0)
        repaired = gradient + repair * (scale / REPAIR_PROBABILITY)
        after = _norms(repaired).sum()
        return repaired * torch.where(after > 0, total / after, 1.0)

    def stored(self) -> dict[str, Any]:
        return {name: int(getattr(self, name)) for name in self._sums}


def _shrunk(x: Tensor, target: float) -> Tensor:
    """x, moved towards zero by `target`, and zero where its absolute value is less."""
    return x.sign() * (x.abs() - target).clamp_min(0)
