"""Convolution and pooling of nnet1: over columns, spliced frames, or a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnet.components.field import POSITIVE, FieldError, Kind, Setting, stored
from nnet.converters import reference
from nnet.converters.legacy import Rows, check_divides, check_shape
from nnet.converters.nnet1.affine import BIAS_MEAN, BIAS_RANGE, PARAM_STDDEV
from nnet.converters.nnet1.base import (
    DIMS,
    TYPES,
    Nnet1Component,
    SameDim,
    array,
    bias_learn_rate_field,
    learn_rate_field,
    max_norm_field,
    option,
    uniform,
)
from nnet.limits import check_array
from nnet.modelfile.tokens import Reader
from nnet.modelfile.writing import Writer
from nnet.text.values import real

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer


def _size(token: str, doc: str) -> Any:
    return stored(Kind.INTEGER, token, doc, key=token, check=POSITIVE)


@TYPES.register("ConvolutionalComponent")
@dataclass(kw_only=True, eq=False)
class Convolution(Nnet1Component):
    """Filters on patches of `patch_dim` columns of each spliced frame, `patch_step` apart.

    A spliced frame has `patch_stride` columns; `filters` is (num_filters, num_splice * patch_dim).
    """

    settings: ClassVar[tuple[Setting, ...]] = (*DIMS, PARAM_STDDEV, BIAS_MEAN, BIAS_RANGE)
    line_ends: ClassVar[tuple[str, ...]] = ("patch_stride", "max_norm")
    line_ends_within: ClassVar[tuple[str, ...]] = ("filters", "bias")

    patch_dim: int = _size("<PatchDim>", "columns of a patch")
    patch_step: int = _size("<PatchStep>", "columns between patches")
    patch_stride: int = _size("<PatchStride>", "columns of a frame before splicing")
    learn_rate: float = learn_rate_field()
    bias_learn_rate: float = bias_learn_rate_field()
    max_norm: float = max_norm_field()
    filters: np.ndarray = array(Kind.MATRIX, "filters (num_filters, filter_dim)", "<Filters>")
    bias: np.ndarray = array(Kind.VECTOR, "bias (num_filters,)", "<Bias>")

    @classmethod
    def initial(
        cls, input_dim: int, output_dim: int, given: Given, init: Initializer
    ) -> Convolution:
        component = cls(
            input_dim=input_dim,
            output_dim=output_dim,
            filters=np.zeros((0, 0), np.float32),
            bias=np.zeros(0, np.float32),
            **given.fields,
        )
        component.check_sizes()
        shape = output_dim // component.num_patches, component.num_splice * component.patch_dim
        component.filters = init.normal(*shape, stddev=given["<ParamStddev>"])
        mean, width = given["<BiasMean>"], given["<BiasRange>"]
        component.bias = uniform(init, shape[0], mean=mean, width=width)
        return component

    @property
    def num_splice(self) -> int:
        return self.input_dim // self.patch_stride

    @property
    def num_patches(self) -> int:
        return 1 + (self.patch_stride - self.patch_dim) // self.patch_step

    def check_sizes(self) -> None:
        """Raises FieldError unless frames and patches fit the numbers of columns."""
        super().check()
        check_divides(self.patch_stride, self.input_dim, "<InputDim> / <PatchStride>")
        rest = self.patch_stride - self.patch_dim
        if rest < 0 or rest % self.patch_step != 0:
            raise FieldError(
                "<PatchStep>",
                f"<PatchStride> - <PatchDim> (={rest}) must be a multiple of <PatchStep> "
                f"(={self.patch_step})",
            )
        check_divides(self.num_patches, self.output_dim, "<OutputDim> / number of patches")

    def check(self) -> None:
        self.check_sizes()
        filters = self.output_dim // self.num_patches
        check_shape(self, "filters", filters, self.num_splice * self.patch_dim)
        check_shape(self, "bias", filters)

    def forward(self, rows: Rows) -> Rows:
        offsets = self.patch_stride * np.arange(self.num_splice)[:, None] + np.arange(
            self.patch_dim
        )
        columns = reference.patch_columns(self.num_patches, self.patch_step, offsets.ravel())
        return reference.convolve(rows, columns, self.filters, self.bias)


@dataclass(kw_only=True, eq=False)
class Pooling(Nnet1Component):
    """Pools of `pool_size` blocks of `pool_stride` columns, `pool_step` blocks apart."""

    pool_size: int = _size("<PoolSize>", "blocks in a pool")
    pool_step: int = _size("<PoolStep>", "blocks between pools")
    pool_stride: int = _size("<PoolStride>", "columns of a block")

    def check(self) -> None:
        super().check()
        check_divides(self.pool_stride, self.input_dim, "<InputDim> / <PoolStride>")
        rest = self.input_dim // self.pool_stride - self.pool_size
        if rest < 0 or rest % self.pool_step != 0:
            raise FieldError(
                "<PoolStep>",
                f"number of blocks - <PoolSize> (={rest}) must be a multiple of <PoolStep> "
                f"(={self.pool_step})",
            )
        made = (1 + rest // self.pool_step) * self.pool_stride
        if made != self.output_dim:
            raise FieldError(
                "<OutputDim>", f"<OutputDim> (={self.output_dim}) must be {made} for these pools"
            )


@TYPES.register("AveragePoolingComponent")
class AveragePooling(Pooling):
    """The mean over each pool."""

    def forward(self, rows: Rows) -> Rows:
        return reference.average_pool(rows, self.pool_size, self.pool_step, self.pool_stride)


@TYPES.register("MaxPoolingComponent")
class MaxPooling(Pooling):
    """The largest value over each pool."""

    def forward(self, rows: Rows) -> Rows:
        return reference.max_pool(rows, self.pool_size, self.pool_step, self.pool_stride)


@TYPES.register("FramePoolingComponent")
@dataclass(kw_only=True, eq=False)
class FramePooling(Nnet1Component):
    """Weighted sums of spliced frames of `feature_dim` columns.

    Pool i starts at frame `offsets[i]` of the splice and has the weights `weights[i]`.
    """

    settings: ClassVar[tuple[Setting, ...]] = (
        *DIMS,
        Setting("<CentralOffset>", Kind.INTEGERS, "place of each pool, from the central frame", ()),
        Setting("<PoolSize>", Kind.INTEGERS, "frames of each pool, negative: to the left", ()),
        Setting("<PoolWeight>", Kind.TEXT, "initial weights of all pools, one after the other"),
    )

    feature_dim: int = _size("<FeatureDim>", "columns of a frame")
    learn_rate: float = stored(
        Kind.REAL,
        "<LearnRateCoef>",
        "factor of the learning rate",
        key="<LearnRateCoef>",
        default=0.01,
    )
    normalize: bool = stored(
        Kind.BOOLEAN,
        "<Normalize>",
        "keep the sum of the weights",
        key="<Normalize>",
        default=False,
    )
    offsets: tuple[int, ...] = stored(Kind.INTEGERS, "<FrameOffset>", "first frame of each pool")
    weights: tuple[np.ndarray, ...] = ()

    @classmethod
    def initial(
        cls, input_dim: int, output_dim: int, given: Given, init: Initializer
    ) -> FramePooling:
        central, sizes = given["<CentralOffset>"], given["<PoolSize>"]
        if len(central) != len(sizes) or not sizes or 0 in sizes:
            raise FieldError("<PoolSize>", "<CentralOffset> and <PoolSize> must go together")
        middle = (input_dim // given.fields["feature_dim"] - 1) // 2
        places = zip(central, sizes, strict=True)
        lengths = [abs(size) for size in sizes]
        check_array(sum(lengths))
        weights = [np.full(n, 1.0 / n, np.float32) for n in lengths]
        if given["<PoolWeight>"] is not None:
            numbers = np.array([real(word) for word in given["<PoolWeight>"].split(",")])
            weights = np.split(numbers.astype(np.float32), np.cumsum(lengths)[:-1])
        return cls(
            input_dim=input_dim,
            output_dim=output_dim,
            offsets=tuple(middle + place + min(0, size + 1) for place, size in places),
            weights=tuple(weights),
            **given.fields,
        )

    @classmethod
    def read_fields(cls, reader: Reader, depth: int) -> dict[str, Any]:
        values = super().read_fields(reader, depth)
        reader.expect("<FrameWeight>")
        values["weights"] = tuple(reader.vector() for _ in values["offsets"])
        return values

    def write_fields(self, writer: Writer) -> None:
        super().write_fields(writer)
        writer.token("<FrameWeight>")
        for weights in self.weights:
            writer.vector(weights)

    def check(self) -> None:
        super().check()
        check_divides(self.feature_dim, self.input_dim, "<InputDim> / <FeatureDim>")
        frames = self.input_dim // self.feature_dim
        if self.output_dim != len(self.offsets) * self.feature_dim:
            raise FieldError(
                "<OutputDim>",
                f"<OutputDim> (={self.output_dim}) must be <FeatureDim> (={self.feature_dim}) "
                f"times the number of pools (={len(self.offsets)})",
            )
        for first, weights in zip(self.offsets, self.weights, strict=True):
            if first < 0 or weights.size == 0 or first + weights.size > frames:
                raise FieldError(
                    "<FrameOffset>",
                    f"a pool of frames {first} .. {first + weights.size - 1} among {frames}",
                )

    def forward(self, rows: Rows) -> Rows:
        frames = rows.reshape(len(rows), -1, self.feature_dim)
        pools = [
            np.einsum("tfd,f->td", frames[:, first : first + weights.size], weights.astype(float))
            for first, weights in zip(self.offsets, self.weights, strict=True)
        ]
        return np.concatenate(pools, axis=1)


@TYPES.register("SimpleSentenceAveragingComponent")
@dataclass(kw_only=True, eq=False)
class SimpleSentenceAveraging(SameDim):
    """The mean over all frames of the sentence, at each frame.

    It is sum / (frames + shrinkage), or with `only_summing` the sum.
    """

    gradient_boost: float = option(
        "<GradientBoost>", Kind.REAL, "factor of the derivative that goes back", 100.0
    )
    shrinkage: float = option(
        "<Shrinkage>", Kind.REAL, "number of frames of zeros that are averaged, too", 0.0
    )
    only_summing: bool = option("<OnlySumming>", Kind.BOOLEAN, "whether not to divide", False)

    @classmethod
    def read_fields(cls, reader: Reader, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while (token := reader.peek_token()) in ("<GradientBoost>", "<Shrinkage>", "<OnlySumming>"):
            reader.expect(token)
            if token == "<OnlySumming>":
                values["only_summing"] = _old_boolean(reader)
            else:
                name = "shrinkage" if token == "<Shrinkage>" else "gradient_boost"
                values[name] = reader.real()
        return values

    def forward(self, rows: Rows) -> Rows:
        total = rows.sum(axis=0, keepdims=True)
        if not self.only_summing:
            total = total / (len(rows) + self.shrinkage)
        return np.repeat(total, len(rows), axis=0)


def _old_boolean(reader: Reader) -> bool:
    """A boolean; where old files have a number it means false, as in nnet1."""
    if (reader.peek_token() or "").startswith(("T", "F")):
        return reader.boolean()
    reader.real()
    return False
