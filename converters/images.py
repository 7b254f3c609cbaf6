"""Convolution and pooling along columns as nnet3's components for images."""

from __future__ import annotations

import numpy as np

from nnet.components.convolution import Convolution, Maxpooling
from nnet.converters.assembly import Assembly, with_rate
from nnet.text.syntax import Descriptor


def convolution(
    to: Assembly,
    source: Descriptor,
    filters: np.ndarray,
    bias: np.ndarray,
    *,
    patch_dim: int,
    patch_step: int,
    patch_stride: int,
    factor: float,
    rate: float,
    interlaced: bool = False,
) -> Descriptor:
    """Filters on patches along the columns of spliced frames.

    The frames are x and a frame's columns y of nnet3's image. Interlaced frames are its channels
    z, and their columns x.

    Args:
        filters: (num_filters, num_splice * patch_dim), frame by frame.
        interlaced: whether the frames' columns alternate.
    """
    frames = filters.shape[1] // patch_dim
    along = {"input": patch_stride, "filt": patch_dim, "step": patch_step}
    across = {"input": 1 if interlaced else frames, "filt": 1 if interlaced else frames, "step": 1}
    x, y = (along, across) if interlaced else (across, along)
    if interlaced:
        shape = len(filters), frames, patch_dim
        filters = np.ascontiguousarray(filters.reshape(shape).swapaxes(1, 2)).reshape(filters.shape)
    component = Convolution(
        input_x_dim=x["input"],
        input_y_dim=y["input"],
        input_z_dim=frames if interlaced else 1,
        filt_x_dim=x["filt"],
        filt_y_dim=y["filt"],
        filt_x_step=x["step"],
        filt_y_step=y["step"],
        filters=filters,
        bias=bias,
    )
    return to.add(with_rate(component, factor, rate), source)


def max_pool(to: Assembly, source: Descriptor, size: int, step: int, stride: int) -> Descriptor:
    """The largest of `size` blocks of `stride` columns; pools begin `step` blocks apart."""
    blocks = to.dim(source) // stride
    if step > size:  # blocks between the pools are read by none: leave them out
        pools = 1 + (blocks - size) // step
        used = step * np.arange(pools)[:, None] + np.arange(size)
        columns = stride * used.reshape(-1, 1) + np.arange(stride)
        source = to.select(source, columns.ravel().tolist(), "used")
        blocks, step = pools * size, size
    component = Maxpooling(
        input_x_dim=blocks,
        input_y_dim=1,
        input_z_dim=stride,
        pool_x_size=size,
        pool_y_size=1,
        pool_z_size=1,
        pool_x_step=step,
        pool_y_step=1,
        pool_z_step=1,
    )
    return to.add(component, source)
