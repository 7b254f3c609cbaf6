"""Convolution and pooling over images that one frame holds: x is time, y height, z channel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnet.components.affine import matrix_setting
from nnet.components.base import Component, Updatable, check_length
from nnet.components.field import (
    NOT_NEGATIVE,
    POSITIVE,
    REQUIRED,
    Check,
    FieldError,
    Kind,
    Repeated,
    Role,
    Setting,
    stored,
)
from nnet.components.registry import register
from nnet.components.summary import mean_stddev, rms

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer

ORDERS = ("yzx", "zyx")
"""The order of an image's columns, the fastest index first, by its number in model files."""


def _size_field(token: str, key: str, doc: str) -> Any:
    return stored(Kind.INTEGER, token, doc, key=key, check=POSITIVE)


def _check_steps(component: Any, sizes: str, steps: str, axes: str) -> None:
    """Raises FieldError unless windows of some size at some step cover the image exactly."""
    for axis in axes:
        whole = getattr(component, f"input_{axis}_dim")
        size, step = getattr(component, sizes.format(axis)), getattr(component, steps.format(axis))
        key, step_key = (n.format(axis).replace("_", "-") for n in (sizes, steps))
        if size > whole:
            raise FieldError(key, f"{key} (={size}) is above input-{axis}-dim (={whole})")
        if (whole - size) % step != 0:
            raise FieldError(
                step_key,
                f"input-{axis}-dim - {key} (={whole - size}) must be a multiple of "
                f"{step_key} (={step})",
            )


@register("ConvolutionComponent")
@dataclass(kw_only=True, eq=False)
class Convolution(Updatable):
    """Filters over the patches of an image that a row holds; the output's order is zyx.

    `filters` is (num_filters, filt_x_dim * filt_y_dim * input_z_dim), z being the fastest index.
    """

    settings: ClassVar[tuple[Setting, ...]] = (
        matrix_setting("filters and bias side by side"),
        Setting(
            "num-filters", Kind.INTEGER, "number of filters", REQUIRED, POSITIVE, unless="matrix"
        ),
        Setting(
            "input-vectorization-order",
            Kind.TEXT,
            "order of the input's columns, the fastest index first: zyx or yzx",
            "zyx",
            Check("zyx or yzx", lambda value: value in ORDERS),
        ),
        Setting(
            "param-stddev",
            Kind.REAL,
            "standard deviation of the initial filters, by default 1/sqrt(size of a filter)",
            check=NOT_NEGATIVE,
            unless="matrix",
        ),
        Setting(
            "bias-stddev",
            Kind.REAL,
            "standard deviation of the initial bias",
            1.0,
            NOT_NEGATIVE,
            unless="matrix",
        ),
    )
    info_order: ClassVar[tuple[str, ...]] = (
        *Updatable.info_order,
        "input_x_dim",
        "input_y_dim",
        "input_z_dim",
        "filt_x_dim",
        "filt_y_dim",
        "filt_x_step",
        "filt_y_step",
        "input_vectorization",
        "num_filters",
        "filters",
        "bias",
    )

    input_x_dim: int = _size_field("<InputXDim>", "input-x-dim", "width of the image: frames")
    input_y_dim: int = _size_field("<InputYDim>", "input-y-dim", "height of the image")
    input_z_dim: int = _size_field("<InputZDim>", "input-z-dim", "channels of the image")
    filt_x_dim: int = _size_field("<FiltXDim>", "filt-x-dim", "width of a filter: frames")
    filt_y_dim: int = _size_field("<FiltYDim>", "filt-y-dim", "height of a filter")
    filt_x_step: int = _size_field("<FiltXStep>", "filt-x-step", "step between patches in x")
    filt_y_step: int = _size_field("<FiltYStep>", "filt-y-step", "step between patches in y")
    input_vectorization: int = stored(
        Kind.INTEGER,
        "<InputVectorization>",
        "order of the input's columns: 0 for yzx, 1 for zyx",
        default=ORDERS.index("zyx"),
        check=Check("0 (yzx) or 1 (zyx)", lambda value: value in (0, 1)),
    )
    filters: np.ndarray = stored(
        Kind.MATRIX,
        "<FilterParams>",
        "filters (num_filters, size of a filter)",
        role=Role.PARAMETER,
        info=lambda c: rms("filter-params", c.filters),
    )
    bias: np.ndarray = stored(
        Kind.VECTOR,
        "<BiasParams>",
        "bias (num_filters,)",
        role=Role.PARAMETER,
        info=lambda c: mean_stddev("bias-params", c.bias),
    )
    is_gradient_again = Repeated("<IsGradient>", Kind.BOOLEAN, "is_gradient")

    @classmethod
    def create(cls, given: Given, init: Initializer) -> Convolution:
        sizes = given.fields
        columns = sizes["filt_x_dim"] * sizes["filt_y_dim"] * sizes["input_z_dim"]
        if given["matrix"] is not None:
            matrix = init.read_matrix(given["matrix"])
            filters, bias = matrix[:, :-1].copy(), matrix[:, -1].copy()
        else:
            stddev, count = given["param-stddev"], given["num-filters"]
            stddev = 1.0 / math.sqrt(columns) if stddev is None else stddev
            filters = init.normal(count, columns, stddev=stddev)
            bias = init.normal(count, stddev=given["bias-stddev"])
        order = ORDERS.index(given["input-vectorization-order"])
        return cls(filters=filters, bias=bias, input_vectorization=order, **sizes)

    @property
    def input_dim(self) -> int:
        return self.input_x_dim * self.input_y_dim * self.input_z_dim

    @property
    def num_filters(self) -> int:
        return int(self.filters.shape[0])

    @property
    def patches(self) -> tuple[int, int]:
        """Number of patches in x and in y."""
        return (
            1 + (self.input_x_dim - self.filt_x_dim) // self.filt_x_step,
            1 + (self.input_y_dim - self.filt_y_dim) // self.filt_y_step,
        )

    @property
    def output_dim(self) -> int:
        return math.prod(self.patches) * self.num_filters

    @property
    def is_zyx(self) -> bool:
        """Whether channels are the fastest index of the input, rather than heights."""
        return ORDERS[self.input_vectorization] == "zyx"

    def check(self) -> None:
        super().check()
        _check_steps(self, "filt_{}_dim", "filt_{}_step", "xy")
        rows, columns = self.filters.shape
        expected = self.filt_x_dim * self.filt_y_dim * self.input_z_dim
        if rows == 0 or columns != expected:
            raise FieldError(
                "matrix",
                f"the matrix of filters is {rows} x {columns}, expected {expected} columns "
                "(filt-x-dim * filt-y-dim * input-z-dim)",
            )
        check_length(self, "bias", rows, "one for each filter")


@register("MaxpoolingComponent")
@dataclass(kw_only=True, eq=False)
class Maxpooling(Component):
    """The maximum of each box of an image that a row holds, columns in the order zyx."""

    info_order: ClassVar[tuple[str, ...]] = (
        "input_x_dim",
        "input_y_dim",
        "input_z_dim",
        "pool_x_size",
        "pool_y_size",
        "pool_z_size",
        "pool_x_step",
        "pool_y_step",
        "pool_z_step",
    )

    input_x_dim: int = _size_field("<InputXDim>", "input-x-dim", "width of the image: frames")
    input_y_dim: int = _size_field("<InputYDim>", "input-y-dim", "height of the image")
    input_z_dim: int = _size_field("<InputZDim>", "input-z-dim", "channels of the image")
    pool_x_size: int = _size_field("<PoolXSize>", "pool-x-size", "width of a box")
    pool_y_size: int = _size_field("<PoolYSize>", "pool-y-size", "height of a box")
    pool_z_size: int = _size_field("<PoolZSize>", "pool-z-size", "channels of a box")
    pool_x_step: int = _size_field("<PoolXStep>", "pool-x-step", "step between boxes in x")
    pool_y_step: int = _size_field("<PoolYStep>", "pool-y-step", "step between boxes in y")
    pool_z_step: int = _size_field("<PoolZStep>", "pool-z-step", "step between boxes in z")

    @property
    def input_dim(self) -> int:
        return self.input_x_dim * self.input_y_dim * self.input_z_dim

    @property
    def pools(self) -> tuple[int, int, int]:
        """Number of boxes in x, y and z."""
        return (
            1 + (self.input_x_dim - self.pool_x_size) // self.pool_x_step,
            1 + (self.input_y_dim - self.pool_y_size) // self.pool_y_step,
            1 + (self.input_z_dim - self.pool_z_size) // self.pool_z_step,
        )

    @property
    def output_dim(self) -> int:
        return math.prod(self.pools)

    def check(self) -> None:
        super().check()
        _check_steps(self, "pool_{}_size", "pool_{}_step", "xyz")
        for axis in "xyz":
            size, step = getattr(self, f"pool_{axis}_size"), getattr(self, f"pool_{axis}_step")
            if step > size:
                key = f"pool-{axis}-step"
                raise FieldError(key, f"{key} (={step}) is above pool-{axis}-size (={size})")
