"""The convolution of nnet2, along the columns of a row of spliced frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from nnet.components.affine import (
    BIAS_STDDEV,
    INPUT_DIM,
    OUTPUT_DIM,
    PARAM_STDDEV,
    affine_from_file,
    matrix_setting,
)
from nnet.components.field import POSITIVE, REQUIRED, FieldError, Kind, Presence, Setting, stored
from nnet.converters import reference
from nnet.converters.legacy import Rows, check_divides, check_shape
from nnet.converters.nnet2.affine import bias_field, gradient_field, linear_field
from nnet.converters.nnet2.base import TYPES, Updatable

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer


@TYPES.register("Convolutional1dComponent")
@dataclass(kw_only=True, eq=False)
class Convolutional1d(Updatable):
    """Filters on patches of `patch_dim` columns of each spliced frame, `patch_step` apart.

    A spliced frame has `patch_stride` columns; `filters` is (num_filters, num_splice * patch_dim).
    The output holds the filters of the first patch, of the second, ... With `appended_conv` the
    input is one such output: the frames' columns interlaced.
    """

    settings: ClassVar[tuple[Setting, ...]] = (
        matrix_setting("filters and bias side by side"),
        INPUT_DIM,
        OUTPUT_DIM,
        PARAM_STDDEV,
        BIAS_STDDEV,
    )

    patch_dim: int = stored(
        Kind.INTEGER, "<PatchDim>", "columns of a patch", key="patch-dim", check=POSITIVE
    )
    patch_step: int = stored(
        Kind.INTEGER, "<PatchStep>", "columns between patches", key="patch-step", check=POSITIVE
    )
    patch_stride: int = stored(
        Kind.INTEGER,
        "<PatchStride>",
        "columns of a frame before splicing",
        key="patch-stride",
        check=POSITIVE,
    )
    appended_conv: bool = stored(
        Kind.BOOLEAN,
        "<AppendedConv>",
        "whether the columns of the frames are interlaced",
        key="appended-conv",
        default=False,
        presence=Presence.SINCE,
    )
    filters: np.ndarray = linear_field("<FilterParams>")
    bias: np.ndarray = bias_field()
    is_gradient: bool = gradient_field(Presence.SINCE)

    @classmethod
    def create(cls, given: Given, init: Initializer) -> Convolutional1d:
        if given["matrix"] is not None:
            free = {"input-dim": REQUIRED, "output-dim": REQUIRED}  # they are not the filters'
            filters, bias = affine_from_file(type(given)({}, given.settings | free), init)
            component = cls(filters=filters, bias=bias, **given.fields)
            component.check()
            for key in ("input-dim", "output-dim"):
                found = getattr(component, key.replace("-", "_"))
                if given[key] not in (REQUIRED, found):
                    raise FieldError(
                        key, f"{key} (={given[key]}) differs from the matrix's {found}"
                    )
            return component
        fields = given.fields
        stride, dim, step = (fields[f"patch_{n}"] for n in ("stride", "dim", "step"))
        check_divides(stride, given["input-dim"], "input-dim / patch-stride")
        patches = 1 + (stride - dim) // step if dim <= stride else 0
        check_divides(patches, given["output-dim"], "output-dim / patches")
        stddev = given["param-stddev"]
        stddev = 1.0 / math.sqrt(given["input-dim"]) if stddev is None else stddev
        shape = given["output-dim"] // patches, given["input-dim"] // stride * dim
        bias = init.normal(shape[0], stddev=given["bias-stddev"])
        return cls(filters=init.normal(*shape, stddev=stddev), bias=bias, **fields)

    def check(self) -> None:
        super().check()
        if self.filters.size == 0:
            raise FieldError("filters", "there are no filters")
        check_divides(self.patch_dim, int(self.filters.shape[1]), "filter-dim / patch-dim")
        if self.patch_dim > self.patch_stride:
            raise FieldError(
                "patch-dim",
                f"patch-dim (={self.patch_dim}) must be at most patch-stride "
                f"(={self.patch_stride})",
            )
        check_shape(self, "bias", self.filters.shape[0])

    @property
    def num_splice(self) -> int:
        return int(self.filters.shape[1]) // self.patch_dim

    @property
    def num_patches(self) -> int:
        return 1 + (self.patch_stride - self.patch_dim) // self.patch_step

    @property
    def input_dim(self) -> int:
        return self.patch_stride * self.num_splice

    @property
    def output_dim(self) -> int:
        return self.num_patches * int(self.filters.shape[0])

    def forward(self, rows: Rows) -> Rows:
        frames = np.arange(self.num_splice)[:, None]
        columns = np.arange(self.patch_dim)
        step = self.patch_step
        if self.appended_conv:
            offsets, step = columns * self.num_splice + frames, step * self.num_splice
        else:
            offsets = frames * self.patch_stride + columns
        where = reference.patch_columns(self.num_patches, step, offsets.ravel())
        return reference.convolve(rows, where, self.filters, self.bias)
