"""Convolution and pooling over images that single rows hold."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from nnet.kernels.convolution.geometry import Image, Taps
from nnet.kernels.convolution.reference import image_convolution
from nnet.kernels.windows.windows import Windows
from nnet.modules.base import ComponentModule
from nnet.modules.registry import implements
from nnet.plan.times import Times


@implements("ConvolutionComponent")
class Convolution(ComponentModule):
    """Filters over the patches of an image; the output's order is zyx, as nnet3 has it."""

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.filters = self.parameter("filters")
        self.bias = self.parameter("bias")

    def forward(self, x: Tensor, times: Times) -> Tensor:
        if self.implementation == "triton":
            return self._by_stretches(x)
        spec = self.spec
        size = (spec.filt_x_dim, spec.filt_y_dim, spec.input_z_dim)
        kernel = self.filters.unflatten(1, size).permute(0, 3, 1, 2)
        step = (spec.filt_x_step, spec.filt_y_step)
        image = self._image(x).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        result = functional.conv2d(image, kernel, self.bias, stride=step)
        return result.permute(0, 2, 3, 1).reshape(*x.shape[:-1], spec.output_dim)

    def _image(self, x: Tensor) -> Tensor:
        """Rows as images (rows, x, y, z)."""
        spec = self.spec
        if spec.is_zyx:
            return x.reshape(-1, spec.input_x_dim, spec.input_y_dim, spec.input_z_dim)
        image = x.reshape(-1, spec.input_x_dim, spec.input_z_dim, spec.input_y_dim)
        return image.transpose(2, 3)

    def _by_stretches(self, x: Tensor) -> Tensor:
        """The convolution as one over time and height: the image's x is the time of rows that hold
        its y and z."""
        spec = self.spec
        image = self._image(x).flatten(2).transpose(0, 1)  # (x, rows, y z)
        made_x = (spec.input_x_dim - spec.filt_x_dim) // spec.filt_x_step + 1
        made_y = (spec.input_y_dim - spec.filt_y_dim) // spec.filt_y_step + 1
        result = image_convolution(
            image,
            self.filters,
            self.bias,
            Image(spec.input_z_dim, spec.input_y_dim, made_y, spec.filt_y_step),
            Taps(tuple(product(range(spec.filt_x_dim), range(spec.filt_y_dim)))),
            Windows(made_x, 0, spec.filt_x_step, 1),
            implementation="triton",
        )
        return result.transpose(0, 1).reshape(*x.shape[:-1], spec.output_dim)


@implements("MaxpoolingComponent")
class Maxpooling(ComponentModule):
    """The maximum of each box; the derivative goes to all elements that equal it, as in nnet3."""

    def image(self, x: Tensor) -> Tensor:
        """Rows as images (rows, x, y, z)."""
        spec = self.spec
        return x.reshape(-1, spec.input_x_dim, spec.input_y_dim, spec.input_z_dim)

    def places(self) -> list[tuple[slice, ...]]:
        """For each place in a box, where it lies in all the boxes of an image."""
        spec = self.spec
        sizes = (spec.pool_x_size, spec.pool_y_size, spec.pool_z_size)
        steps = (spec.pool_x_step, spec.pool_y_step, spec.pool_z_step)
        axes = list(zip(spec.pools, steps, strict=True))
        return [
            (
                slice(None),
                *(slice(p, p + (n - 1) * s + 1, s) for p, (n, s) in zip(at, axes, strict=True)),
            )
            for at in product(*map(range, sizes))
        ]

    def forward(self, x: Tensor, times: Times) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            result: Tensor = _Maximum.apply(x, self)
            return result
        return self.maximum(x)

    def maximum(self, x: Tensor) -> Tensor:
        image = self.image(x)
        first, *rest = self.places()
        result = image[first].clone()
        for place in rest:
            torch.maximum(result, image[place], out=result)
        return result.reshape(*x.shape[:-1], self.spec.output_dim)

    @torch.no_grad()
    def derivative(self, x: Tensor, y: Tensor, gradient: Tensor, times: Times) -> Tensor:
        image = self.image(x)
        boxes = (-1, *self.spec.pools)
        maximum, gradient = y.reshape(boxes), gradient.reshape(boxes)
        result = torch.zeros_like(image)
        for place in self.places():
            result[place] += gradient * (image[place] == maximum)
        return result.reshape(x.shape)


class _Maximum(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, module: Maxpooling) -> Tensor:
        y = module.maximum(x)
        ctx.save_for_backward(x, y)
        ctx.module = module
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, y = ctx.saved_tensors
        return ctx.module.derivative(x, y, gradient, None), None
