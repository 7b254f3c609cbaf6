"""The relu, tanh and sigmoid family: an affine transform and nonlinearities named by the type."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from nnet.text.syntax import Line
from nnet.text.values import real, true_or_false
from nnet.xconfig import common
from nnet.xconfig.layer import LayerWithInput
from nnet.xconfig.lines import Chain
from nnet.xconfig.option import NOT_NEGATIVE, POSITIVE, PROPORTION, Extra, Option, Passed
from nnet.xconfig.registry import register
from nnet.xconfig.scope import Output


@register(
    "relu-layer",
    "relu-renorm-layer",
    "relu-batchnorm-dropout-layer",
    "relu-dropout-layer",
    "relu-batchnorm-layer",
    "relu-batchnorm-so-layer",
    "batchnorm-so-relu-layer",
    "batchnorm-layer",
    "sigmoid-layer",
    "tanh-layer",
)
class BasicLayer(LayerWithInput):
    """An affine transform, then the parts that the type names, in its order.

    The parts are relu, sigmoid, tanh, renorm (unit root mean square in each frame), batchnorm, so
    (a trained scale and offset for each column) and dropout. With `bottleneck-dim` the transform
    is factorized: a linear one with orthonormal rows, then the affine one.
    """

    example = "name=tdnn1 dim=1024 input=Append(-3,0,3)"
    dim = common.output_dim()
    bottleneck_dim = common.bottleneck_dim()
    self_repair_scale = common.self_repair_scale()
    target_rms = Option(
        real, 1.0, "root mean square after renorm and batchnorm", check=NOT_NEGATIVE
    )
    ng_affine_options = Extra("further settings of the affine component")
    ng_linear_options = Extra("further settings of the linear factor")
    dropout_proportion = Option(
        real, 0.5, "share of the values that dropout sets to zero", check=PROPORTION
    )
    dropout_per_dim = Option(
        true_or_false, False, "whether dropout does the same to all frames of a sequence"
    )
    dropout_per_dim_continuous = Option(
        true_or_false, False, "the same with random scales instead of zeros and ones"
    )
    add_log_stddev = Option(
        true_or_false, False, "whether a last renorm's input log-stddev is the last column"
    )
    bias_stddev = common.passed_not_negative(common.BIAS_STDDEV)
    l2_regularize = common.passed_not_negative(common.L2_REGULARIZE)
    learning_rate_factor = Passed(real, common.LEARNING_RATE_FACTOR, check=POSITIVE)
    max_change = common.max_change()

    nonlinearities: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "relu": "RectifiedLinearComponent",
            "sigmoid": "SigmoidComponent",
            "tanh": "TanhComponent",
        }
    )
    """Component types by the part of the layer type's name."""

    @property
    def parts(self) -> list[str]:
        """What follows the affine transform, in order."""
        return self.line.word.split("-")[:-1]

    def check(self) -> None:
        bottleneck = self.bottleneck_dim
        if bottleneck >= 0 and not 0 < bottleneck < self.dim:
            raise self.wrong(
                "bottleneck-dim",
                f"bottleneck-dim (={bottleneck}) must be positive and below dim (={self.dim})",
            )
        if self.add_log_stddev and self.parts[-1] != "renorm":
            raise self.wrong(
                "add-log-stddev",
                f"add-log-stddev needs a renorm at the end, which {self.line.word} lacks",
                hint="use relu-renorm-layer, or remove add-log-stddev",
            )
        if self.add_log_stddev and self.dim < 2:
            raise self.wrong("dim", f"dim (={self.dim}) must be 2 or more with add-log-stddev")

    def outputs(self) -> dict[str, Output]:
        return {"": self.output(self.parts[-1], self.dim)}

    def config(self) -> list[Line]:
        dim = self.dim - 1 if self.add_log_stddev else self.dim
        chain = self.chain()
        self._add_affine(chain, dim)
        for part in self.parts:
            component_type, settings = self._part(part, last=part == self.parts[-1])
            chain.add(f"{self.name}.{part}", component_type, {"dim": dim}, settings)
        return chain.lines

    def _add_affine(self, chain: Chain, dim: int) -> None:
        input_dim = self.input.dim
        if self.bottleneck_dim > 0:
            chain.add(
                f"{self.name}.linear",
                "LinearComponent",
                {
                    "input-dim": input_dim,
                    "orthonormal-constraint": 1.0,
                    "output-dim": self.bottleneck_dim,
                },
                self.ng_linear_options.settings,
                self.passed("max-change", "learning-rate-factor"),
            )
            input_dim = self.bottleneck_dim
        chain.add(
            f"{self.name}.affine",
            "NaturalGradientAffineComponent",
            {"input-dim": input_dim, "output-dim": dim},
            self.ng_affine_options.settings,
            self.passed("max-change", "learning-rate-factor", "bias-stddev", "l2-regularize"),
        )

    def _part(self, part: str, *, last: bool) -> tuple[str, dict[str, Any]]:
        """The component type of a part, and its settings after `dim`."""
        if part in self.nonlinearities:
            return self.nonlinearities[part], self.passed("self-repair-scale")
        match part:
            case "renorm":
                stddev = {"add-log-stddev": last and self.add_log_stddev}
                return "NormalizeComponent", {**self.passed("target-rms"), **stddev}
            case "batchnorm":
                return "BatchNormComponent", self.passed("target-rms")
            case "so":
                return "ScaleAndOffsetComponent", {"max-change": 0.5}
            case "dropout":
                return self._dropout()
        raise ValueError(f"{self.line.word} has an unknown part {part}")

    def _dropout(self) -> tuple[str, dict[str, Any]]:
        proportion = self.passed("dropout-proportion")
        if self.dropout_per_dim_continuous:
            return "GeneralDropoutComponent", {**proportion, "continuous": True}
        if self.dropout_per_dim:
            return "GeneralDropoutComponent", proportion
        return "DropoutComponent", proportion


@register("swish-layer", "swish-batchnorm-layer")
class SwishLayer(BasicLayer):
    """An affine transform, then the swish function x / (1 + exp(-x)), then batchnorm if named.

    Ramachandran, Zoph & Le, "Searching for activation functions", 2017. Not loadable by Kaldi.
    """

    in_kaldi = False
    nonlinearities = MappingProxyType({"swish": "SwishComponent"})
