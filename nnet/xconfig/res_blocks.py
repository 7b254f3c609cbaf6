"""Residual blocks of convolutions for images: res-block, res2-block.

He et al., "Deep residual learning for image recognition", CVPR 2016, and "Identity mappings in
deep residual networks", ECCV 2016.
"""

from __future__ import annotations

from typing import Any

from nnet.text.syntax import Descriptor, Line, Sum
from nnet.text.values import choice, integer, real, true_or_false
from nnet.xconfig.convolution import CONVOLUTION, RELU, ConvolutionTraining
from nnet.xconfig.layer import Layer
from nnet.xconfig.lines import Chain, config_line
from nnet.xconfig.option import POSITIVE, PROPORTION, REQUIRED, Option
from nnet.xconfig.registry import register
from nnet.xconfig.scope import Output

_REPAIR_BELOW = "share of frames above zero below which a unit of relu{} is repaired"


def _around(period: int) -> str:
    return f"-{period},0,{period}"


class _Residual(ConvolutionTraining):
    """Options of both kinds of blocks."""

    num_filters: Option[int]
    num_bottleneck_filters = Option(
        integer, -1, "filters of the convolution in the middle of three; -1 for two convolutions"
    )
    time_period = Option(integer, 1, "frames between the frames that are read", check=POSITIVE)
    allow_zero_padding = Option(
        true_or_false, True, "whether zeros stand for frames that are not there"
    )
    self_repair_scale = Option(
        real, 2.0e-05, "strength of the repair of saturated units", check=PROPORTION
    )
    self_repair_lower_threshold1 = Option(real, 0.05, _REPAIR_BELOW.format(1))
    self_repair_lower_threshold2 = Option(real, 0.05, _REPAIR_BELOW.format(2))
    self_repair_lower_threshold3 = Option(real, 0.05, _REPAIR_BELOW.format(3))

    @property
    def in_three(self) -> bool:
        """Whether the block has three convolutions, the second one of few filters."""
        return self.num_bottleneck_filters > 0

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the convolutions."""
        return (1, 2, 3) if self.in_three else (1, 2)

    def filters_after(self, n: int) -> int:
        """Number of filters that convolution number n gives."""
        return self.num_bottleneck_filters if self.in_three and n < 3 else self.num_filters

    @property
    def training(self) -> dict[str, Any]:
        """Settings of a convolution after its shape."""
        return {**self.natural_gradient, **self.passed("l2-regularize")}

    @property
    def padding(self) -> dict[str, Any]:
        return {"required-time-offsets": 0} if self.allow_zero_padding else {}

    def check(self) -> None:
        number = self.num_bottleneck_filters
        if number != -1 and number <= 0:
            raise self.wrong(
                "num-bottleneck-filters",
                f"num-bottleneck-filters (={number}) must be positive, or -1 for none",
            )

    def add_relu(self, chain: Chain, n: int, height: int, filters: int) -> None:
        settings = {
            "dim": height * filters,
            "block-dim": filters,
            "self-repair-scale": self.self_repair_scale,
            "self-repair-lower-threshold": self.values[f"self-repair-lower-threshold{n}"],
        }
        chain.add(f"{self.name}.relu{n}", RELU, settings)

    def add_batchnorm(self, chain: Chain, n: int, height: int, filters: int) -> None:
        settings = {"dim": height * filters, "block-dim": filters}
        chain.add(f"{self.name}.batchnorm{n}", "BatchNormComponent", settings)


def _filters(layer: Layer) -> int:
    """the input's columns over height"""
    if not isinstance(layer, ResBlock):
        raise TypeError(f"{layer} is no res-block")
    return layer.input.dim // layer.height


@register("res-block")
class ResBlock(_Residual):
    """The input plus two or three convolutions of it, each behind relu and batchnorm.

    Height and number of filters stay.
    """

    example = "name=res2 height=20 num-filters=2 time-period=1"
    height = Option(integer, REQUIRED, "height of the input and the output", check=POSITIVE)
    num_filters = Option(
        integer, _filters, "number of filters of the input and the output", unset=-1, check=POSITIVE
    )
    height_period = Option(integer, 1, "heights between the heights that are read", check=POSITIVE)
    bypass_source = Option(
        choice("input", "noop", "relu", "batchnorm"),
        "noop",
        "what the convolutions are added to: the input (noop: with a component for the sum), "
        "or the input behind relu1 or batchnorm1",
    )

    def check(self) -> None:
        super().check()
        dim, height = self.input.dim, self.height
        if dim % height or self.num_filters * height != dim:
            key = "height" if dim % height else "num-filters"
            raise self.wrong(
                key,
                f"{self} with height {height} and {self.num_filters} filters has "
                f"{height * self.num_filters} columns, but its input '{self.input.text}' has {dim}",
                expected="height * num-filters equal to the dimension of the input",
            )

    def outputs(self) -> dict[str, Output]:
        if self.bypass_source == "noop":
            return {"": self.output("noop", self.input.dim)}
        convolution = self.output(f"conv{self.numbers[-1]}", self.input.dim).descriptor
        total = Sum((convolution, self._bypass()), span=self.line.span)
        return {"": Output(total, self.input.dim)}

    def _bypass(self) -> Descriptor:
        if self.bypass_source in ("input", "noop"):
            return self.input.nodes
        return self.output(f"{self.bypass_source}1", self.input.dim).descriptor

    def config(self) -> list[Line]:
        chain = self.chain()
        filters = self.num_filters
        for n in self.numbers:
            self.add_relu(chain, n, self.height, filters)
            self.add_batchnorm(chain, n, self.height, filters)
            following = self.filters_after(n)
            self._add_convolution(chain, n, filters, following)
            filters = following
        if self.bypass_source == "noop":
            return chain.lines + self._sum(chain.end)
        return chain.lines

    def _sum(self, convolution: Descriptor) -> list[Line]:
        """A component for the sum; Kaldi's tool writes its dim in front of its type."""
        name, span = f"{self.name}.noop", self.line.span
        component = {"name": name, "dim": self.input.dim, "type": "NoOpComponent"}
        total = Sum((self.input.nodes, convolution), span=span)
        node = {"name": name, "component": name, "input": total}
        return [
            config_line("component", component, span=span),
            config_line("component-node", node, span=span),
        ]

    def _add_convolution(self, chain: Chain, n: int, filters: int, following: int) -> None:
        wide = not self.in_three or n == 2
        shape = {
            "height-in": self.height,
            "height-out": self.height,
            "height-offsets": _around(self.height_period) if wide else "0",
            "time-offsets": _around(self.time_period) if wide else "0",
            "num-filters-in": filters,
            "num-filters-out": following,
        }
        chain.add(f"{self.name}.conv{n}", CONVOLUTION, shape, self.padding, self.training)


def _height(layer: Layer) -> int:
    """height"""
    if not isinstance(layer, Res2Block):
        raise TypeError(f"{layer} is no res2-block")
    return layer.height


@register("res2-block")
class Res2Block(_Residual):
    """Two or three convolutions, each with batchnorm and trained scales and offsets, and a sum.

    The input is added; relu comes between them and behind the sum. The number of filters may
    change and the height may be halved; then a convolution of one point brings the input to the
    same shape. Where the height is halved and there are two convolutions, the first reads frames
    `time-period / 2` apart.
    """

    example = "name=res3 height-in=20 height-out=10 num-filters=8 time-period=2"
    height = Option(integer, -1, "height of the input and the output, where they are equal")
    height_in = Option(integer, _height, "height of the input", unset=-1)
    height_out = Option(integer, _height, "height of the output", unset=-1)
    num_filters = Option(integer, REQUIRED, "number of filters of the output", check=POSITIVE)

    @property
    def filters_in(self) -> int:
        return self.input.dim // self.height_in

    @property
    def subsampling(self) -> int:
        """Heights of the input for each height of the output."""
        return 1 if self.height_in == self.height_out else 2

    @property
    def reshapes(self) -> bool:
        """Whether input and output differ in shape."""
        return self.subsampling != 1 or self.filters_in != self.num_filters

    def check(self) -> None:
        super().check()
        if self.height_in <= 0 or self.height_out <= 0:
            raise self.wrong(
                "height",
                f"{self} has no heights",
                expected="height, or height-in and height-out, all positive",
            )
        if self.input.dim % self.height_in:
            raise self.wrong(
                "height-in" if self.line.get("height-in") else "height",
                f"the height of the input (={self.height_in}) of {self} does not divide the "
                f"{self.input.dim} columns of '{self.input.text}'",
            )
        half = self.height_in / 2
        if self.subsampling == 2 and not half - 1 <= self.height_out <= half + 1:
            raise self.wrong(
                "height-out",
                f"height-out (={self.height_out}) must be height-in (={self.height_in}) or about "
                "half of it",
            )
        if self.subsampling == 2 and not self.in_three and self.time_period % 2:
            raise self.wrong(
                "time-period",
                f"time-period (={self.time_period}) must be even where the height is halved",
            )

    def outputs(self) -> dict[str, Output]:
        return {"": self.output(f"relu{self.numbers[-1]}", self.height_out * self.num_filters)}

    def config(self) -> list[Line]:
        chain = self.chain()
        bypass = Chain(self.input.nodes, self.line.span)
        if self.reshapes:
            self._add_bypass(bypass)
        filters = self.filters_in
        for n in self.numbers:
            following = self.filters_after(n)
            self._add_convolution(chain, n, filters, following)
            filters = following
            self.add_batchnorm(chain, n, self.height_out, filters)
            block = {"dim": self.height_out * filters, "block-dim": filters}
            chain.add(f"{self.name}.scaleoffset{n}", "ScaleAndOffsetComponent", block)
            if n == self.numbers[-1]:
                chain.end = Sum((chain.end, bypass.end), span=self.line.span)
            self.add_relu(chain, n, self.height_out, filters)
        return chain.lines + bypass.lines

    def _add_convolution(self, chain: Chain, n: int, filters: int, following: int) -> None:
        height = self.height_in if n == 1 else self.height_out
        subsampling = {"height-subsample-out": self.subsampling if n == 1 else 1}
        wide = not self.in_three or n == 2
        period = self.time_period
        if n == 1 and not self.in_three:
            period //= self.subsampling
        heights = {"height-in": height, "height-out": self.height_out}
        height_offsets = {"height-offsets": "-1,0,1" if wide else "0"}
        time_offsets = {"time-offsets": _around(period) if wide else "0"}
        numbers = {"num-filters-in": filters, "num-filters-out": following}
        if self.in_three:
            shape = {**heights, **height_offsets, **time_offsets, **numbers, **subsampling}
        else:
            shape = {**heights, **height_offsets, **subsampling, **time_offsets, **numbers}
        chain.add(f"{self.name}.conv{n}", CONVOLUTION, shape, self.padding, self.training)

    def _add_bypass(self, bypass: Chain) -> None:
        shape = {
            "height-in": self.height_in,
            "height-out": self.height_out,
            "height-offsets": 0,
            "time-offsets": 0,
            "height-subsample-out": self.subsampling,
            "num-filters-in": self.filters_in,
            "num-filters-out": self.num_filters,
        }
        bypass.add(f"{self.name}.conv_bypass", CONVOLUTION, shape, self.training)
