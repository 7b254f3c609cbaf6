"""Convolutions over time and height: the conv family, channel-average-layer.

An input of height H with F filters has H * F columns, all filters of a height side by side.
"""

from __future__ import annotations

import itertools
from typing import Any

from nnet.text.syntax import Line
from nnet.text.values import BadValue, boolean, integer, integers, real
from nnet.xconfig import common
from nnet.xconfig.layer import Layer, LayerWithInput
from nnet.xconfig.option import (
    NOT_NEGATIVE,
    POSITIVE,
    PROPORTION,
    REQUIRED,
    Option,
    Passed,
)
from nnet.xconfig.registry import register
from nnet.xconfig.scope import Output

RELU = "RectifiedLinearComponent"
CONVOLUTION = "TimeHeightConvolutionComponent"


def offsets(text: str) -> str:
    """Different integers in rising order, such as `-1,0,1`; empty for none."""
    if text.strip():
        values = integers(text.replace(":", " "))
        if any(a >= b for a, b in itertools.pairwise(values)):
            raise BadValue("integers in rising order, separated by commas, such as -1,0,1")
    return text


class ConvolutionTraining(LayerWithInput):
    """Options that go to convolution components as they are written."""

    param_stddev = common.passed_not_negative(common.MATRIX_STDDEV)
    bias_stddev = common.passed_not_negative(common.BIAS_STDDEV)
    use_natural_gradient = Passed(boolean, "whether training uses natural gradient")
    max_change = common.max_change()
    rank_in = Passed(integer, "rank of natural gradient on the input side", check=POSITIVE)
    rank_out = Passed(integer, "rank of natural gradient on the output side", check=POSITIVE)
    num_minibatches_history = Passed(
        real, "minibatches that natural gradient remembers", check=POSITIVE
    )
    alpha_in = Passed(real, "smoothing of natural gradient on the input side", check=NOT_NEGATIVE)
    alpha_out = Passed(real, "smoothing of natural gradient on the output side", check=NOT_NEGATIVE)
    l2_regularize = common.passed_not_negative(common.L2_REGULARIZE)

    @property
    def natural_gradient(self) -> dict[str, Any]:
        keys = ("param-stddev", "bias-stddev", "use-natural-gradient", "max-change")
        ranks = ("rank-in", "rank-out", "num-minibatches-history", "alpha-in", "alpha-out")
        return self.passed(*keys, *ranks)


def _filters_of_input(layer: Layer) -> int:
    """the input's columns over height-in"""
    if not isinstance(layer, ConvolutionLayer):
        raise TypeError(f"{layer} has no filters")
    return layer.input.dim // layer.height_in


@register(
    "conv-layer",
    "conv-relu-layer",
    "conv-renorm-layer",
    "conv-relu-renorm-layer",
    "conv-relu-batchnorm-layer",
    "conv-relu-batchnorm-so-layer",
    "conv-relu-batchnorm-dropout-layer",
    "conv-relu-dropout-layer",
    "relu-conv-layer",
    "relu-conv-renorm-layer",
    "batchnorm-conv-layer",
    "batchnorm-conv-relu-layer",
    "relu-batchnorm-conv-layer",
)
class ConvolutionLayer(ConvolutionTraining):
    """A convolution over time and height, and the parts that the type names, in its order.

    The parts are conv, relu, renorm (unit root mean square in each frame), batchnorm, so (a
    trained scale and offset for each filter) and dropout.
    """

    example = (
        "name=cnn1 height-in=40 height-out=20 height-subsample-out=2 num-filters-out=32 "
        "time-offsets=-1,0,1 height-offsets=-1,0,1"
    )
    height_in = Option(integer, REQUIRED, "height of the input", check=POSITIVE)
    height_out = Option(integer, REQUIRED, "height of the output", check=POSITIVE)
    height_subsample_out = Option(
        integer, 1, "heights of the input for each height of the output", check=POSITIVE
    )
    num_filters_in = Option(
        integer, _filters_of_input, "number of filters of the input", unset=-1, check=POSITIVE
    )
    num_filters_out = Option(integer, REQUIRED, "number of filters of the output", check=POSITIVE)
    height_offsets = Option(offsets, REQUIRED, "heights that the convolution reads, as offsets")
    time_offsets = Option(offsets, REQUIRED, "frames that the convolution reads, as offsets")
    required_time_offsets = Option(
        offsets, "", "those of time-offsets that must be there; zeros stand for the others"
    )
    target_rms = Option(real, 1.0, "root mean square after renorm and batchnorm", check=POSITIVE)
    self_repair_scale = Option(
        real, 2.0e-05, "strength of the repair of saturated units", check=PROPORTION
    )
    self_repair_lower_threshold = Option(
        real, 0.05, "share of frames above zero below which a unit is repaired"
    )
    dropout_proportion = Option(
        real, 0.5, "share of the values that dropout sets to zero", check=PROPORTION
    )
    learning_rate_factor = common.passed_not_negative(common.LEARNING_RATE_FACTOR)

    @property
    def parts(self) -> list[str]:
        """What the layer consists of, in order."""
        return self.line.word.split("-")[:-1]

    def check(self) -> None:
        self._check_input()
        self._check_heights()
        self._check_times()

    def _check_input(self) -> None:
        dim, height = self.input.dim, self.height_in
        if dim % height:
            raise self.wrong(
                "height-in",
                f"height-in (={height}) of {self} does not divide the {dim} columns of "
                f"'{self.input.text}'",
            )
        if self.num_filters_in * height != dim:
            raise self.wrong(
                "num-filters-in",
                f"num-filters-in (={self.num_filters_in}) of {self} and height-in (={height}) "
                f"make {self.num_filters_in * height} columns, but '{self.input.text}' has {dim}",
                hint="leave num-filters-in out",
            )

    def _check_heights(self) -> None:
        reached = self.height_out * self.height_subsample_out
        skipped = len(self.height_offsets.split(","))
        if not self.height_in - skipped <= reached <= self.height_in:
            fewest = -(-max(1, self.height_in - skipped) // self.height_subsample_out)
            most = self.height_in // self.height_subsample_out
            raise self.wrong(
                "height-out",
                f"height-out (={self.height_out}) does not fit height-in (={self.height_in}) "
                f"with height-subsample-out (={self.height_subsample_out})",
                expected=f"a height-out from {fewest} to {most}" if fewest <= most else None,
            )

    def _check_times(self) -> None:
        for key in ("height-offsets", "time-offsets"):
            if not self.values[key].strip():
                raise self.wrong(key, f"{self} has an empty {key}")
        if self.required_time_offsets.strip():
            required = set(integers(self.required_time_offsets))
            surplus = required - set(integers(self.time_offsets))
            if surplus:
                raise self.wrong(
                    "required-time-offsets",
                    f"required-time-offsets has {min(surplus)}, which time-offsets "
                    f"(={self.time_offsets}) lacks",
                )

    def outputs(self) -> dict[str, Output]:
        dim = self.num_filters_out * self.height_out
        return {"": self.output(self.parts[-1], dim)}

    def config(self) -> list[Line]:
        chain = self.chain()
        filters, height = self.num_filters_in, self.height_in
        for part in self.parts:
            if part == "conv":
                chain.add(f"{self.name}.conv", CONVOLUTION, self._convolution())
                filters, height = self.num_filters_out, self.height_out
            else:
                component_type, settings = self._part(part, filters, filters * height)
                chain.add(f"{self.name}.{part}", component_type, settings)
        return chain.lines

    def _convolution(self) -> dict[str, Any]:
        shape = ("num-filters-in", "num-filters-out", "height-in", "height-out")
        reach = ("height-subsample-out", "height-offsets", "time-offsets", "required-time-offsets")
        training = ("learning-rate-factor", "l2-regularize")
        return {**self.natural_gradient, **self.passed(*shape, *reach, *training)}

    def _part(self, part: str, filters: int, dim: int) -> tuple[str, dict[str, Any]]:
        """The component type of a part, and its settings."""
        block = {"dim": dim, "block-dim": filters}
        match part:
            case "batchnorm":
                return "BatchNormComponent", {**block, **self.passed("target-rms")}
            case "renorm":
                return "NormalizeComponent", {"dim": dim, **self.passed("target-rms")}
            case "relu":
                repair = self.passed("self-repair-scale", "self-repair-lower-threshold")
                return RELU, {**block, **repair}
            case "dropout":
                return "DropoutComponent", {"dim": dim, **self.passed("dropout-proportion")}
            case "so":
                return "ScaleAndOffsetComponent", block
        raise ValueError(f"{self.line.word} has an unknown part {part}")


def _height_in(layer: Layer) -> int:
    """height-in"""
    if not isinstance(layer, NoConvolutionLayer):
        raise TypeError(f"{layer} has no height")
    return layer.height_in


@register("relu-noconv-layer", "relu-batchnorm-noconv-layer")
class NoConvolutionLayer(ConvolutionLayer):
    """The parts around a convolution without the convolution: relu and batchnorm by filters."""

    example = "name=relu1 height-in=20"
    height_out = Option(
        integer, _height_in, "height of the output, that of the input", unset=-1, check=POSITIVE
    )
    num_filters_out = Option(
        integer,
        _filters_of_input,
        "number of filters of the output, those of the input",
        unset=-1,
        check=POSITIVE,
    )
    height_offsets = Option(offsets, "", "accepted and not used")
    time_offsets = Option(offsets, "", "accepted and not used")

    @property
    def parts(self) -> list[str]:
        return super().parts[:-1]

    def check(self) -> None:
        self._check_input()
        for key, value, own in (
            ("height-out", self.height_out, self.height_in),
            ("num-filters-out", self.num_filters_out, self.num_filters_in),
        ):
            if value != own:
                raise self.wrong(
                    key,
                    f"{key} (={value}) of {self} must be that of its input '{self.input.text}' "
                    f"(={own}), as it has no convolution",
                    hint=f"leave {key} out",
                )


@register("channel-average-layer")
class ChannelAverageLayer(LayerWithInput):
    """The average over heights, times or channels: sums blocks of `dim` columns of the input."""

    example = "name=average dim=8"
    dim = Option(integer, REQUIRED, "number of columns of the output", check=POSITIVE)

    def check(self) -> None:
        if self.input.dim % self.dim:
            raise self.wrong(
                "dim",
                f"dim (={self.dim}) of {self} does not divide the {self.input.dim} columns of "
                f"'{self.input.text}'",
            )

    def outputs(self) -> dict[str, Output]:
        return {"": self.output("", self.dim)}

    def config(self) -> list[Line]:
        chain = self.chain()
        dims = {"input-dim": self.input.dim, "output-dim": self.dim}
        chain.add(self.name, "SumBlockComponent", dims, {"scale": self.dim * 1.0 / self.input.dim})
        return chain.lines
