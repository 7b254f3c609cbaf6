"""Affine components whose matrix consists of equal blocks on the diagonal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnet.components.affine import BIAS_MEAN, BIAS_STDDEV, INPUT_DIM, OUTPUT_DIM, PARAM_STDDEV
from nnet.components.base import Updatable, check_length, check_multiple
from nnet.components.field import POSITIVE, FieldError, Kind, Old, Role, Setting, stored
from nnet.components.registry import register
from nnet.components.summary import mean_stddev, rms

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer


def _settings(bias_stddev: float) -> tuple[Setting, ...]:
    """Keys of the dimensions and of the initial parameters; the former are those of all blocks."""
    replaced = {"bias-stddev": bias_stddev}
    keys = (INPUT_DIM, OUTPUT_DIM, PARAM_STDDEV, BIAS_STDDEV, BIAS_MEAN)
    return tuple(
        Setting(s.key, s.kind, s.doc, replaced.get(s.key, s.default), s.check) for s in keys
    )


class BlockDiagonal(Updatable):
    """What the block-diagonal affine components have in common; subclasses count the blocks."""

    info_order: ClassVar[tuple[str, ...]] = (*Updatable.info_order, "num_blocks", "linear", "bias")

    linear: np.ndarray
    bias: np.ndarray

    @staticmethod
    def block_dims(given: Given, count_key: str, blocks: int) -> tuple[int, int]:
        """Columns read and made by one block."""
        for key in ("input-dim", "output-dim"):
            if given[key] % blocks != 0:
                raise FieldError(
                    count_key,
                    f"{key} (={given[key]}) must be a multiple of {count_key} (={blocks})",
                )
        return given["input-dim"] // blocks, given["output-dim"] // blocks

    @staticmethod
    def initial(given: Given, init: Initializer, rows: int, columns: int) -> dict[str, Any]:
        """Random parameters: `linear` (rows, columns) and `bias` (rows,)."""
        stddev = given["param-stddev"]
        stddev = 1.0 / math.sqrt(columns) if stddev is None else stddev
        bias = init.normal(rows, stddev=given["bias-stddev"], mean=given["bias-mean"])
        return {"linear": init.normal(rows, columns, stddev=stddev), "bias": bias}

    def check(self) -> None:
        super().check()
        if self.linear.size == 0:
            raise FieldError("linear", "the matrix is empty")
        check_length(
            self,
            "bias",
            self.linear.shape[0],
            f"one for each row of the matrix, not {self.bias.size}",
        )


@register("RepeatedAffineComponent")
@dataclass(kw_only=True, eq=False)
class RepeatedAffine(BlockDiagonal):
    """The same affine map of each of `num_repeats` blocks of columns: y_i = linear x_i + bias."""

    settings: ClassVar[tuple[Setting, ...]] = _settings(bias_stddev=0.0)
    info_order: ClassVar[tuple[str, ...]] = (
        *Updatable.info_order,
        "num_repeats",
        "linear",
        "bias",
    )

    num_repeats: int = stored(
        Kind.INTEGER, "<NumRepeats>", "number of blocks", key="num-repeats", check=POSITIVE
    )
    linear: np.ndarray = stored(
        Kind.MATRIX,
        "<LinearParams>",
        "matrix (output_dim / num_repeats, input_dim / num_repeats)",
        role=Role.PARAMETER,
        info=lambda c: rms("linear-params", c.linear),
    )
    bias: np.ndarray = stored(
        Kind.VECTOR,
        "<BiasParams>",
        "bias (output_dim / num_repeats,)",
        role=Role.PARAMETER,
        info=lambda c: mean_stddev("bias", c.bias),
    )
    old_is_gradient = Old("<IsGradient>", Kind.BOOLEAN, sets=("is_gradient",))

    @classmethod
    def create(cls, given: Given, init: Initializer) -> RepeatedAffine:
        columns, rows = cls.block_dims(given, "num-repeats", given.fields["num_repeats"])
        return cls(**cls.initial(given, init, rows, columns), **given.fields)

    @property
    def input_dim(self) -> int:
        return int(self.linear.shape[1]) * self.num_repeats

    @property
    def output_dim(self) -> int:
        return int(self.linear.shape[0]) * self.num_repeats


@register("NaturalGradientRepeatedAffineComponent")
class NaturalGradientRepeatedAffine(RepeatedAffine):
    """As RepeatedAffineComponent, trained with natural gradient."""


@register("BlockAffineComponent")
@dataclass(kw_only=True, eq=False)
class BlockAffine(BlockDiagonal):
    """An affine map of its own for each of `num_blocks` blocks: y_i = linear_i x_i + bias_i."""

    settings: ClassVar[tuple[Setting, ...]] = _settings(bias_stddev=1.0)

    num_blocks: int = stored(
        Kind.INTEGER, "<NumBlocks>", "number of blocks", key="num-blocks", check=POSITIVE
    )
    linear: np.ndarray = stored(
        Kind.MATRIX,
        "<LinearParams>",
        "the blocks' matrices below each other (output_dim, input_dim / num_blocks)",
        role=Role.PARAMETER,
        info=lambda c: rms("linear-params", c.linear),
    )
    bias: np.ndarray = stored(
        Kind.VECTOR,
        "<BiasParams>",
        "bias (output_dim,)",
        role=Role.PARAMETER,
        info=lambda c: mean_stddev("bias", c.bias),
    )
    old_is_gradient = Old("<IsGradient>", Kind.BOOLEAN, sets=("is_gradient",))

    @classmethod
    def create(cls, given: Given, init: Initializer) -> BlockAffine:
        columns, _ = cls.block_dims(given, "num-blocks", given.fields["num_blocks"])
        return cls(**cls.initial(given, init, given["output-dim"], columns), **given.fields)

    @property
    def input_dim(self) -> int:
        return int(self.linear.shape[1]) * self.num_blocks

    @property
    def output_dim(self) -> int:
        return int(self.linear.shape[0])

    def check(self) -> None:
        super().check()
        check_multiple(self, "output_dim", "num_blocks")
