"""Layers that are one component without a change of dimension: renorm, batchnorm, no-op, ..."""

from __future__ import annotations

from nnet.text.syntax import Line
from nnet.text.values import integer, real
from nnet.xconfig import common
from nnet.xconfig.layer import LayerWithInput, MayPrecedeTransform
from nnet.xconfig.option import INSIDE_ONE, POSITIVE, Option, Passed
from nnet.xconfig.registry import register
from nnet.xconfig.scope import Output


class _SameDim(LayerWithInput):
    """A component with the layer's name; as many columns come out as go in."""

    component_type: str

    def outputs(self) -> dict[str, Output]:
        return {"": self.output("", self.input.dim)}

    def settings(self) -> dict[str, object]:
        """The component's settings after `dim`."""
        return {}

    def config(self) -> list[Line]:
        chain = self.chain()
        chain.add(self.name, self.component_type, {"dim": self.input.dim}, self.settings())
        return chain.lines


@register("no-op-component")
class NoOp(_SameDim):
    """Gives what it reads; names the value of a descriptor."""

    example = "name=spliced input=Append(-1,0,1)"
    component_type = "NoOpComponent"


@register("renorm-component")
class Renorm(_SameDim):
    """Scales each frame to a given root mean square."""

    example = "name=norm target-rms=0.5"
    component_type = "NormalizeComponent"
    target_rms = Option(real, 1.0, "root mean square of the output", check=POSITIVE)

    def settings(self) -> dict[str, object]:
        return self.passed("target-rms")


@register("batchnorm-component")
class BatchNorm(_SameDim, MayPrecedeTransform):
    """Scales and shifts each column to zero mean and a given root mean square."""

    example = "name=norm target-rms=0.5"
    component_type = "BatchNormComponent"
    target_rms = Option(real, 1.0, "root mean square of the output", check=POSITIVE)

    def settings(self) -> dict[str, object]:
        return self.passed("target-rms")


class _PerElement(_SameDim):
    """A trained number for each column."""

    l2_regularize = common.passed_not_negative(common.L2_REGULARIZE)
    max_change = common.max_change()
    param_mean = Passed(real, "initial mean of the parameters")
    param_stddev = common.passed_not_negative("initial standard deviation of the parameters")
    learning_rate_factor = common.passed_not_negative(common.LEARNING_RATE_FACTOR)

    def settings(self) -> dict[str, object]:
        training = self.passed("learning-rate-factor", "max-change", "l2-regularize")
        return {**training, **self.passed("param-mean", "param-stddev")}


@register("scale-component")
class PerElementScale(_PerElement):
    """Multiplies each column by a trained number."""

    example = "name=scale param-mean=0.5"
    component_type = "NaturalGradientPerElementScaleComponent"


@register("offset-component")
class PerElementOffset(_PerElement):
    """Adds a trained number to each column."""

    example = "name=offset"
    component_type = "PerElementOffsetComponent"


@register("spec-augment-layer")
class SpecAugment(MayPrecedeTransform):
    """Zeroes random bands of columns and random stretches of frames in training.

    Park et al., "SpecAugment: a simple data augmentation method for automatic speech
    recognition", Interspeech 2019.
    """

    example = "name=masked freq-max-proportion=0.3"
    freq_max_proportion = Option(
        real, 0.5, "largest share of the columns that may be zeroed", check=INSIDE_ONE
    )
    time_zeroed_proportion = Option(
        real, 0.2, "share of the frames that are zeroed", check=INSIDE_ONE
    )
    time_mask_max_frames = Option(
        integer, 20, "frames of the longest zeroed stretch", check=POSITIVE
    )

    def outputs(self) -> dict[str, Output]:
        return {"": self.output("time-mask", self.input.dim)}

    def config(self) -> list[Line]:
        dim = {"dim": self.input.dim}
        chain = self.chain()
        chain.add(
            f"{self.name}.freq-mask",
            "GeneralDropoutComponent",
            dim,
            {"specaugment-max-proportion": self.freq_max_proportion},
        )
        chain.add(
            f"{self.name}.time-mask",
            "SpecAugmentTimeMaskComponent",
            dim,
            {
                "zeroed-proportion": self.time_zeroed_proportion,
                "time-mask-max-frames": self.time_mask_max_frames,
            },
        )
        return chain.lines
