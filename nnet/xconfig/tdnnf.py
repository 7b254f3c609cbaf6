"""Factorized time-delay layers: tdnnf-layer, prefinal-layer."""

from __future__ import annotations

from nnet.text.syntax import Descriptor, Line, Scale, Sum
from nnet.text.values import choice, integer, real
from nnet.xconfig import common
from nnet.xconfig.layer import LayerWithInput
from nnet.xconfig.option import BELOW_ONE, POSITIVE, REQUIRED, SCALE, Option
from nnet.xconfig.registry import register
from nnet.xconfig.scope import Output


@register("tdnnf-layer")
class TdnnfLayer(LayerWithInput):
    """A factorized time-delay layer (TDNN-F) with a bypass.

    Povey et al., "Semi-orthogonal low-rank matrix factorization for deep neural networks",
    Interspeech 2018: a semi-orthogonal linear transform of frames t - stride and t to
    `bottleneck-dim`, an affine one of frames t and t + stride to `dim`, relu, batchnorm, dropout,
    and the sum with the scaled input.
    """

    example = "name=tdnnf2 dim=1536 bottleneck-dim=160 time-stride=3"
    example_dim = 1536
    dim = Option(integer, REQUIRED, "number of columns of the output", check=POSITIVE)
    bottleneck_dim = Option(
        integer, REQUIRED, "number of columns between the two transforms", check=POSITIVE
    )
    bypass_scale = Option(
        real, 0.66, "scale of the input in the sum with the output; 0 for no sum", check=SCALE
    )
    dropout_proportion = Option(
        real, -1.0, "strength of dropout; -1 for no dropout component", check=BELOW_ONE
    )
    time_stride = Option(
        integer, 1, "frames between the two inputs of a transform; 0 for one input"
    )
    l2_regularize = common.l2_regularize()
    max_change = common.max_change()
    self_repair_scale = common.self_repair_scale()
    context = Option(
        choice("default", "left-only", "shift-left", "none"),
        "default",
        "which frames the affine transform reads",
    )

    def check(self) -> None:
        if self.bottleneck_dim >= self.dim:
            raise self.wrong(
                "bottleneck-dim",
                f"bottleneck-dim (={self.bottleneck_dim}) must be below dim (={self.dim})",
            )
        if self.bypass_scale != 0 and self.dim != self.input.dim:
            raise self.wrong(
                "dim",
                f"{self} with dim {self.dim} adds its input '{self.input.text}', "
                f"which has dim {self.input.dim}",
                expected=f"dim={self.input.dim}, or bypass-scale=0 for no sum",
            )

    def outputs(self) -> dict[str, Output]:
        return {"": self.output("noop" if self.bypass_scale != 0 else self._last(), self.dim)}

    def _last(self) -> str:
        """The component in front of the bypass."""
        return "batchnorm" if self.dropout_proportion == -1 else "dropout"

    def _time_offsets(self) -> tuple[str, str]:
        """What the linear and the affine transform read, in frames."""
        stride = self.time_stride
        if stride == 0 or self.context == "none":
            return "0", "0"
        affine = {"default": f"0,{stride}", "shift-left": f"{-stride},0", "left-only": "0"}
        return f"{-stride},0", affine[self.context]

    def config(self) -> list[Line]:
        name, dim, bottleneck = self.name, self.dim, self.bottleneck_dim
        linear_offsets, affine_offsets = self._time_offsets()
        training = self.passed("l2-regularize", "max-change")
        chain = self.chain()
        chain.add(
            f"{name}.linear",
            "TdnnComponent",
            {"input-dim": self.input.dim, "output-dim": bottleneck, **training},
            {"use-bias": False, "time-offsets": linear_offsets, "orthonormal-constraint": -1.0},
        )
        chain.add(
            f"{name}.affine",
            "TdnnComponent",
            {"input-dim": bottleneck, "output-dim": dim, **training},
            {"time-offsets": affine_offsets},
        )
        repair = {"dim": dim, **self.passed("self-repair-scale")}
        chain.add(f"{name}.relu", "RectifiedLinearComponent", repair)
        chain.add(f"{name}.batchnorm", "BatchNormComponent", {"dim": dim})
        if self.dropout_proportion != -1:
            dropout = {"dim": dim, **self.passed("dropout-proportion"), "continuous": True}
            chain.add(f"{name}.dropout", "GeneralDropoutComponent", dropout)
        if self.bypass_scale != 0:
            chain.end = self._with_bypass(chain.end)
            chain.add(f"{name}.noop", "NoOpComponent", {"dim": dim})
        return chain.lines

    def _with_bypass(self, transformed: Descriptor) -> Descriptor:
        span = self.line.span
        return Sum((Scale(self.bypass_scale, self.input.nodes, span=span), transformed), span=span)


@register("prefinal-layer")
class PrefinalLayer(LayerWithInput):
    """What stands in front of the output of a TDNN-F network.

    An affine transform to `big-dim`, relu and batchnorm, then a semi-orthogonal linear transform
    to `small-dim` and batchnorm.
    """

    example = "name=prefinal big-dim=1536 small-dim=256"
    big_dim = Option(integer, REQUIRED, "number of columns inside", check=POSITIVE)
    small_dim = Option(integer, REQUIRED, "number of columns of the output", check=POSITIVE)
    l2_regularize = common.l2_regularize()
    max_change = common.max_change()
    self_repair_scale = common.self_repair_scale()

    def check(self) -> None:
        if self.small_dim >= self.big_dim:
            raise self.wrong(
                "small-dim",
                f"small-dim (={self.small_dim}) must be below big-dim (={self.big_dim})",
            )

    def outputs(self) -> dict[str, Output]:
        return {"": self.output("batchnorm2", self.small_dim)}

    def config(self) -> list[Line]:
        name, big, small = self.name, self.big_dim, self.small_dim
        training = self.passed("l2-regularize", "max-change")
        chain = self.chain()
        chain.add(
            f"{name}.affine",
            "NaturalGradientAffineComponent",
            {"input-dim": self.input.dim, "output-dim": big, **training},
        )
        repair = {"dim": big, **self.passed("self-repair-scale")}
        chain.add(f"{name}.relu", "RectifiedLinearComponent", repair)
        chain.add(f"{name}.batchnorm1", "BatchNormComponent", {"dim": big})
        chain.add(
            f"{name}.linear",
            "LinearComponent",
            {"input-dim": big, "output-dim": small, **training, "orthonormal-constraint": -1},
        )
        chain.add(f"{name}.batchnorm2", "BatchNormComponent", {"dim": small})
        return chain.lines
