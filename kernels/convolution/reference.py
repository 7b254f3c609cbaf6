"""Convolution over time and height: nnet3's TimeHeightConvolutionComponent.

y[t, b, h] = bias + sum_i W_i x[row(t, n_i), b, s h + d_i], where s is the step in height, and
offset i of the filters reads row n_i of the output time's window and pixels d_i further up. What
lies outside the image counts as zero, and so do rows that are not there.

A row `(height * channels)` holds pixels side by side. The torch code below is the reference and the
CPU path; the kernels are in `nnet.kernels.convolution.gpu.forward`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from nnet.kernels.affine.spliced import finish
from nnet.kernels.affine.terms import Epilogue
from nnet.kernels.convolution.geometry import Image, Taps
from nnet.kernels.implementation import Implementation, triton_file, uses_triton
from nnet.kernels.windows.windows import Windows, resident


def image_convolution(
    x: Tensor,
    filters: Tensor,
    bias: Tensor,
    image: Image,
    taps: Taps,
    windows: Windows,
    *,
    activation: str = "",
    scales: Tensor | None = None,
    offsets: Tensor | None = None,
    implementation: Implementation = "reference",
) -> Tensor:
    """The formula above, then an activation, then scales and offsets.

    Args:
        x: `(stored times, batch, height_in * channels)`.
        filters: `(filters, offsets * channels)`.
        bias: `(filters,)`.
        activation: '' or a name in `nnet.kernels.functions.FUNCTIONS`.
        scales, offsets: `(height_out * filters,)` or None.

    Returns:
        `(count, batch, height_out * filters)`.
    """
    ending = Epilogue(activation, scales, offsets)
    differentiable = torch.is_grad_enabled() and any(t.requires_grad for t in (x, filters, bias))
    if not uses_triton(implementation, x, filters):
        convolved = _convolved(x, filters, bias, image, taps, windows)
        return _ended(convolved, ending) if differentiable else finish(convolved, (), ending)
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, filters, bias = x.to(dtype), filters.to(dtype), bias.to(dtype)
    if differentiable:
        return _ended(_ImageConvolution.apply(x, filters, bias, image, taps, windows), ending)
    forward = triton_file("convolution.gpu.forward").forward
    return forward(x, filters, bias, image, taps, windows, *ending[:3])


def _ended(result: Tensor, ending: Epilogue) -> Tensor:
    """What follows the convolution, not in place: the derivative needs what is in between."""
    if ending.activation:
        result = getattr(torch, ending.activation)(result)
    if ending.scales is not None:
        result = result * ending.scales
    return result if ending.offsets is None else result + ending.offsets


def _convolved(
    x: Tensor, filters: Tensor, bias: Tensor, image: Image, taps: Taps, windows: Windows
) -> Tensor:
    if windows.index is None:
        rows, step, dilation = _rows(x, taps.window, windows), windows.step, windows.shift
    else:
        rows = _taken(x, windows.index, taps.window)
        step, dilation = taps.window, 1
    pixels, padding = _pixels(rows, image, taps.heights)
    result = functional.conv2d(
        pixels,
        _kernel(filters, image.channels, taps),
        bias,
        stride=(step, image.height_step),
        padding=(0, padding),
        dilation=(dilation, taps.heights.step),
    )
    return result.permute(2, 0, 3, 1).flatten(-2)


def _rows(x: Tensor, window: int, windows: Windows) -> Tensor:
    """The rows that regular windows read, from the first to the last; zeros where there is none."""
    begin = windows.first
    end = begin + (windows.count - 1) * windows.step + (window - 1) * windows.shift + 1
    inside = x[max(begin, 0) : max(min(end, len(x)), 0)]
    padding = (max(-begin, 0), max(end - len(x), 0))
    return functional.pad(inside, (0, 0, 0, 0, *padding)) if sum(padding) else inside


def _taken(x: Tensor, index: Tensor, window: int) -> Tensor:
    """The rows of all windows, one after the other."""
    flat = resident(index, x.device)[:, :window].flatten()
    present = (flat >= 0).to(x.dtype).view(-1, 1, 1)
    return x.index_select(0, flat.clamp_min(0)) * present


def _pixels(x: Tensor, image: Image, heights: range) -> tuple[Tensor, int]:
    """Rows as (batch, channels, time, height), and how many zeros there are to be on both sides in
    height; where sides differ, the rows are padded or cut to what is read."""
    pixels = x.unflatten(-1, (image.height_in, image.channels))
    last = (image.height_out - 1) * image.height_step + heights[-1]
    below, above = -heights[0], last - (image.height_in - 1)
    same = 0 <= above <= below < above + image.height_step
    if not same:
        pixels = functional.pad(pixels, (0, 0, below, above))
    image_rows = pixels.permute(1, 3, 0, 2).contiguous(memory_format=torch.channels_last)
    return image_rows, below if same else 0


def _kernel(filters: Tensor, channels: int, taps: Taps) -> Tensor:
    """The filters as (filters, channels, window, heights), zero at offsets that there are not."""
    blocks = filters.unflatten(1, (-1, channels))
    size = (taps.window, len(taps.heights))
    whole = blocks
    if not taps.fill_kernel:
        whole = blocks.new_zeros((len(blocks), size[0] * size[1], channels))
        whole = whole.index_copy(1, taps.cells.to(filters.device), blocks)
    return whole.unflatten(1, size).permute(0, 3, 1, 2)


class _ImageConvolution(Function):
    """A convolution over time and height by Triton kernels, with derivatives."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        filters: Tensor,
        bias: Tensor,
        image: Image,
        taps: Taps,
        windows: Windows,
    ) -> Tensor:
        forward = triton_file("convolution.gpu.forward").forward
        ctx.save_for_backward(x, filters)
        ctx.geometry = (image, taps, windows)
        return forward(x, filters, bias, image, taps, windows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        filter_gradient = triton_file("convolution.gpu.gradients").filter_gradient
        source_gradient = triton_file("convolution.gpu.gradients").source_gradient
        x, filters = ctx.saved_tensors
        needs_x, needs_filters, needs_bias = ctx.needs_input_grad[:3]
        gradient = gradient.contiguous()
        return (
            source_gradient(gradient, filters, x.shape[0], *ctx.geometry) if needs_x else None,
            filter_gradient(x, gradient, *ctx.geometry) if needs_filters else None,
            gradient.view(-1, len(filters)).sum(dim=0) if needs_bias else None,
            *(None,) * 3,
        )
