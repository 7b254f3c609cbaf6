"""A rectified linear unit with batch-norm behind it and a bypass beside them, in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nnet.kernels.affine.spliced import spliced_affine
from nnet.kernels.affine.terms import Term
from nnet.kernels.normalization.affine_batch_norm import Layer, Normalization, affine_batch_norm
from nnet.kernels.normalization.batch_norm import batch_norm
from nnet.modules.affine import AnyAffine
from nnet.modules.base import ComponentModule
from nnet.modules.batchnorm import BatchNorm
from nnet.modules.pointwise import RectifiedLinear
from nnet.plan.times import Times
from nnet.runtime.device import autocast_dtype


class WatchedRelu:
    """What a unit stores of a minibatch, and its self-repair, without another pass over the rows;
    see `nnet.kernels.normalization.affine_batch_norm.Watch`."""

    def __init__(self, module: RectifiedLinear) -> None:
        self._module = module
        self._picked = False

    def forward(self, values: Tensor, on: Tensor, rows: int) -> None:
        if self._module.picks_values():
            self._module.store_values(values, on, rows)

    def repair(self) -> Tensor | None:
        self._picked = self._module.picks_derivatives()
        return self._module.repair_term() if self._module.repairs else None

    def backward(self, squares: Tensor, rows: int) -> None:
        if self._picked:
            self._module.store_derivatives(squares, rows)


@dataclass(frozen=True, eq=False)
class ReluBatchNorm:
    """The components of `ir.ReluBatchNorm` and `ir.AffineBatchNorm`.

    Attributes:
        bypass: rows of what is beside and their scale, or None.
        times: of the result.
    """

    relu: RectifiedLinear
    batch_norm: BatchNorm
    bypass: Term | None
    times: Times

    @staticmethod
    def of(
        relu: ComponentModule, batch_norm: ComponentModule, bypass: Sequence[Term], times: Times
    ) -> ReluBatchNorm:
        """The layer of the modules that a plan names, and of its bypass, if there is one."""
        assert isinstance(relu, RectifiedLinear)
        assert isinstance(batch_norm, BatchNorm)
        return ReluBatchNorm(relu, batch_norm, bypass[0] if bypass else None, times)

    def __call__(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """The layer's result `(time, batch, dim)` for rows `x` `(time, batch, dim)`.

        Args:
            beside: the source of the bypass.
        """
        if self._in_blocks(x):
            return self._made(self._layer((), None), [x], None, None, beside)
        if self.batch_norm.uses_minibatch and self.batch_norm.implementation == "triton":
            return self._in_one(x, beside)
        y: Tensor = self.batch_norm(self.relu(x, self.times), self.times)
        if self.bypass is None or beside is None:
            return y
        return torch.add(y, self.bypass.view(beside), alpha=self.bypass.scale)

    def after(
        self,
        module: AnyAffine,
        sources: Sequence[Tensor],
        terms: Sequence[Term],
        beside: Tensor | None = None,
    ) -> Tensor:
        """The layer's result `(time, batch, dim)` behind the affine transform of `terms`, computed
        with it where one pass can."""
        if self._in_blocks(module.linear, *sources):
            layer = self._layer(tuple(terms), module)
            return self._made(layer, sources, module.linear, module.bias, beside)
        affine = (module.linear, module.bias, None, module.observer)
        x = spliced_affine(sources, terms, *affine, implementation=module.implementation)
        return self(x, beside)

    def _in_blocks(self, *tensors: Tensor) -> bool:
        """Whether this is training on a CPU in the type of all tensors."""
        dtype = tensors[0].dtype
        usual = dtype in (torch.float32, torch.float64) and autocast_dtype("cpu") is None
        real = not (torch.compiler.is_compiling() or torch.compiler.is_exporting())
        return (
            usual
            and real
            and self.batch_norm.uses_minibatch
            and self.batch_norm.implementation != "triton"
            and not (_has_hooks(self.relu) or _has_hooks(self.batch_norm))
            and all(t.device.type == "cpu" and t.dtype == dtype for t in tensors)
        )

    def _in_one(self, x: Tensor, beside: Tensor | None) -> Tensor:
        """ReLU, batch norm and bypass in one pass of kernels over rows `x` (time, batch, dim)."""
        norm, watch = self._norm, self._watch()
        block_dim = norm.block_dim
        bypass, scale = None, 1.0
        if self.bypass is not None and beside is not None:
            rows = self.bypass.view(beside).expand(x.shape)
            bypass, scale = rows.reshape(-1, block_dim).to(x.dtype), self.bypass.scale
        if watch is not None and block_dim != x.shape[-1]:
            x, watch = self.relu(x, self.times), None
        y, mean, variance = batch_norm(
            x.reshape(-1, block_dim),
            norm.target_rms,
            norm.epsilon,
            relu=True,
            bypass=bypass,
            bypass_scale=scale,
            watch=watch,
            implementation="triton",
        )
        self.batch_norm.merge(mean, variance, x.numel() // block_dim)
        return y.view(x.shape)

    @property
    def _norm(self) -> Normalization:
        spec = self.batch_norm.spec
        return Normalization(spec.target_rms, spec.epsilon, spec.block_dim)

    def _watch(self) -> WatchedRelu | None:
        return WatchedRelu(self.relu) if self.relu.storing and torch.is_grad_enabled() else None

    def _layer(self, terms: tuple[Term, ...], module: AnyAffine | None) -> Layer:
        return Layer(
            norm=self._norm,
            terms=terms,
            bypass=self.bypass,
            observer=None if module is None else module.observer,
            watch=self._watch(),
            implementation=self.batch_norm.implementation,
        )

    def _made(
        self,
        layer: Layer,
        sources: Sequence[Tensor],
        linear: Tensor | None,
        bias: Tensor | None,
        beside: Tensor | None,
    ) -> Tensor:
        y, statistics = affine_batch_norm(layer, sources, linear, bias, beside)
        self.batch_norm.merge(*statistics)
        return y


def _has_hooks(module: ComponentModule) -> bool:
    """Whether somebody wants to see what a module computes by itself."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)
