"""Attention over a window of frames: the attention family."""

from __future__ import annotations

import math
from typing import Any

from nnet.text.syntax import Line
from nnet.text.values import integer, real, true_or_false
from nnet.xconfig import common
from nnet.xconfig.layer import Layer, LayerWithInput, input_dim
from nnet.xconfig.option import NOT_NEGATIVE, POSITIVE, PROPORTION, REQUIRED, Extra, Option
from nnet.xconfig.registry import register
from nnet.xconfig.scope import Output


def _one_over_sqrt_of_key_dim(layer: Layer) -> float:
    """1 / sqrt(key-dim)"""
    if not isinstance(layer, AttentionLayer):
        raise TypeError(f"{layer} has no keys")
    return 1.0 / math.sqrt(layer.key_dim)


@register(
    "attention-renorm-layer",
    "attention-relu-renorm-layer",
    "attention-relu-batchnorm-layer",
    "relu-renorm-attention-layer",
)
class AttentionLayer(LayerWithInput):
    """An affine transform, attention over a window of frames, and nonlinearities.

    Povey et al., "A time-restricted self-attention layer for ASR", ICASSP 2018. The affine
    transform makes keys, values and queries for each head; the parts that the type names follow
    in its order.
    """

    example = (
        "name=att1 num-heads=15 value-dim=80 key-dim=40 num-left-inputs=5 num-right-inputs=2 "
        "time-stride=3"
    )
    dim = Option(
        integer, input_dim, "accepted and not used: the dimension follows from the others", unset=-1
    )
    num_heads = Option(integer, 1, "number of heads", check=POSITIVE)
    key_dim = Option(integer, REQUIRED, "dimension of a key", check=POSITIVE)
    value_dim = Option(integer, REQUIRED, "dimension of a value", check=POSITIVE)
    num_left_inputs = Option(
        integer, REQUIRED, "number of frames to the left in the window", check=NOT_NEGATIVE
    )
    num_right_inputs = Option(
        integer, REQUIRED, "number of frames to the right in the window", check=NOT_NEGATIVE
    )
    num_left_inputs_required = Option(
        integer, -1, "those on the left that must be there, -1 for all; zeros stand for the others"
    )
    num_right_inputs_required = Option(
        integer, -1, "those on the right that must be there, -1 for all; zeros stand for the others"
    )
    time_stride = Option(integer, 1, "frames from one of the window to the next", check=POSITIVE)
    output_context = Option(
        true_or_false, True, "whether the output has the weights beside the averages"
    )
    key_scale = Option(
        real, _one_over_sqrt_of_key_dim, "scale of the products of keys and queries", unset=0.0
    )
    max_change = common.max_change()
    ng_affine_options = Extra("further settings of the affine component")
    learning_rate_factor = Option(real, 1.0, common.LEARNING_RATE_FACTOR, check=POSITIVE)
    l2_regularize = common.l2_regularize()
    self_repair_scale = common.self_repair_scale()
    target_rms = Option(
        real, 1.0, "root mean square after renorm and batchnorm", check=NOT_NEGATIVE
    )
    dropout_proportion = Option(real, 0.5, "accepted and not used", check=PROPORTION)

    @property
    def parts(self) -> list[str]:
        """What follows the affine transform, in order."""
        return self.line.word.split("-")[:-1]

    @property
    def window(self) -> int:
        """Number of frames in the window."""
        return self.num_left_inputs + 1 + self.num_right_inputs

    @property
    def affine_dim(self) -> int:
        """Keys, values and queries; a query is a key and a number for each frame."""
        query = self.key_dim + self.window
        return self.num_heads * (self.key_dim + self.value_dim + query)

    @property
    def output_dim(self) -> int:
        weights = self.window if self.output_context else 0
        return self.num_heads * (self.value_dim + weights)

    def check(self) -> None:
        for side in ("left", "right"):
            required = self.values[f"num-{side}-inputs-required"]
            inputs = self.values[f"num-{side}-inputs"]
            if not -1 <= required <= inputs:
                raise self.wrong(
                    f"num-{side}-inputs-required",
                    f"num-{side}-inputs-required (={required}) must be from 0 to "
                    f"num-{side}-inputs (={inputs}), or -1",
                )
        if self.dim not in (self.input.dim, self.output_dim):
            raise self.wrong(
                "dim",
                f"dim (={self.dim}) does not set the dimension of {self}, which is "
                f"num-heads * (value-dim + window) = {self.output_dim}",
                hint="leave dim out, and choose num-heads and value-dim",
            )

    def outputs(self) -> dict[str, Output]:
        return {"": self.output(self.parts[-1], self.output_dim)}

    def config(self) -> list[Line]:
        chain = self.chain()
        dim = self.affine_dim
        chain.add(
            f"{self.name}.affine",
            "NaturalGradientAffineComponent",
            {"input-dim": self.input.dim, "output-dim": dim, **self.passed("max-change")},
            self.ng_affine_options.settings,
            self.passed("learning-rate-factor") if self.learning_rate_factor != 1.0 else {},
            self.passed("l2-regularize") if self.l2_regularize != 0.0 else {},
        )
        for part in self.parts:
            component_type, settings = self._part(part, dim)
            chain.add(f"{self.name}.{part}", component_type, settings)
            if part == "attention":
                dim = self.output_dim
        return chain.lines

    def _part(self, part: str, dim: int) -> tuple[str, dict[str, Any]]:
        """The component type of a part, and its settings."""
        match part:
            case "attention":
                return "RestrictedAttentionComponent", self._attention()
            case "relu":
                repair = self.passed("self-repair-scale")
                return "RectifiedLinearComponent", {"dim": dim, **repair}
            case "renorm":
                return "NormalizeComponent", {"dim": dim, **self.passed("target-rms")}
            case "batchnorm":
                return "BatchNormComponent", {"dim": dim, **self.passed("target-rms")}
        raise ValueError(f"{self.line.word} has an unknown part {part}")

    def _attention(self) -> dict[str, Any]:
        dims = ("value-dim", "key-dim", "num-left-inputs", "num-right-inputs")
        required = ("num-left-inputs-required", "num-right-inputs-required")
        return {
            **self.passed(*dims, *required),
            "output-context": str(self.output_context),  # Kaldi's tool prints Python's word
            **self.passed("time-stride", "num-heads", "key-scale"),
        }
