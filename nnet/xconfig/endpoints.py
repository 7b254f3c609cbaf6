"""The ends of a network: input, output, output-layer."""

from __future__ import annotations

import math

from nnet.text.syntax import Descriptor, Line, NodeName, Offset
from nnet.text.values import choice, integer, real, true_or_false
from nnet.xconfig import common
from nnet.xconfig.layer import Configs, Layer, LayerWithInput, input_dim
from nnet.xconfig.lines import config_line
from nnet.xconfig.option import POSITIVE, REQUIRED, Extra, Option
from nnet.xconfig.registry import register
from nnet.xconfig.scope import Output


@register("input")
class InputLayer(Layer):
    """Features that come in, such as `input name=input dim=40` or `input name=ivector dim=100`."""

    example = "name=input dim=40"
    dim = Option(integer, REQUIRED, "number of columns of the features", check=POSITIVE)

    def outputs(self) -> dict[str, Output]:
        return {"": Output(NodeName(self.name, span=self.line.span), self.dim)}

    def configs(self) -> Configs:
        values = {"name": self.name, "dim": self.dim}
        line = (config_line("input-node", values, span=self.line.span),)
        return Configs(init=line, ref=line, final=line)


class _NetworkOutput(LayerWithInput):
    """What outputs of the network have in common; no layer can read them."""

    objective_type = Option(
        choice("linear", "quadratic"),
        "linear",
        "the objective: linear for log-likelihoods, quadratic for regression",
    )
    output_delay = Option(integer, 0, "frames by which the output is later than the input")

    def outputs(self) -> dict[str, Output]:
        return {}

    def output_node(self, source: Descriptor) -> Line:
        """The output-node line."""
        if self.output_delay:
            source = Offset(source, self.output_delay, span=source.span)
        values = {"name": self.name, "input": source, "objective": self.objective_type}
        return config_line("output-node", values, span=self.line.span)


@register("output")
class PlainOutput(_NetworkOutput):
    """An output of the network that gives what it reads, without a transform of its own."""

    example = "name=output objective-type=quadratic"
    dim = Option(integer, input_dim, "number of columns, the input's", unset=-1)

    def check(self) -> None:
        if self.dim != self.input.dim:
            raise self.wrong(
                "dim", f"{self} has dim={self.dim}, but what it reads has dim {self.input.dim}"
            )

    def config(self) -> list[Line]:
        return [self.output_node(self.input.nodes)]


@register("output-layer")
class OutputLayer(_NetworkOutput):
    """An affine transform, by default a log-softmax, and an output of the network.

    The affine transform starts from zero. With `bottleneck-dim` it is factorized: a linear
    transform with orthonormal rows in front of a smaller affine one. Other layers can read
    `NAME.affine` and `NAME.log-softmax`.
    """

    example = "name=output dim=3000 include-log-softmax=false"
    dim = common.output_dim()
    bottleneck_dim = common.bottleneck_dim()
    orthonormal_constraint = Option(
        real, 1.0, "scale of the linear factor's orthonormal constraint", check=POSITIVE
    )
    include_log_softmax = Option(true_or_false, True, "whether a log-softmax follows")
    ng_affine_options = Extra("further settings of the affine component")
    ng_linear_options = Extra("further settings of the linear factor")
    learning_rate_factor = common.passed_not_negative(common.LEARNING_RATE_FACTOR)
    l2_regularize = common.passed_not_negative(common.L2_REGULARIZE)
    max_change = common.max_change(1.5)
    param_stddev = common.stddev(0.0, common.MATRIX_STDDEV)
    bias_stddev = common.stddev(0.0, common.BIAS_STDDEV)

    def check(self) -> None:
        dim = self.bottleneck_dim
        if dim >= 0 and not 0 < dim < min(self.dim, self.input.dim):
            raise self.wrong(
                "bottleneck-dim",
                f"bottleneck-dim (={dim}) must be positive, below the dimension of the input "
                f"(={self.input.dim}) and below dim (={self.dim})",
            )

    def outputs(self) -> dict[str, Output]:
        names = ["affine"] + ["log-softmax"] * self.include_log_softmax
        return {name: self.output(name, self.dim) for name in names}

    def config(self) -> list[Line]:
        chain = self.chain()
        dim = self.input.dim
        if self.bottleneck_dim > 0:
            chain.add(
                f"{self.name}.linear",
                "LinearComponent",
                {
                    "orthonormal-constraint": self.orthonormal_constraint,
                    "param-stddev": self.orthonormal_constraint / math.sqrt(dim),
                    "input-dim": dim,
                    "output-dim": self.bottleneck_dim,
                    "max-change": 0.75,
                },
                self.ng_linear_options.settings,
                self.passed("learning-rate-factor", "l2-regularize", "max-change"),
            )
            dim = self.bottleneck_dim
        chain.add(
            f"{self.name}.affine",
            "NaturalGradientAffineComponent",
            {"input-dim": dim, "output-dim": self.dim},
            self.ng_affine_options.settings,
            self.passed("learning-rate-factor", "l2-regularize", "max-change"),
            self.passed("param-stddev", "bias-stddev"),
        )
        if self.include_log_softmax:
            chain.add(f"{self.name}.log-softmax", "LogSoftmaxComponent", {"dim": self.dim})
        return [*chain.lines, self.output_node(chain.end)]
