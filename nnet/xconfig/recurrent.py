"""What layers with memory have in common: cells, delay, truncation of derivatives, projections."""

from __future__ import annotations

from typing import Any

from nnet.text.values import integer, real, true_or_false
from nnet.xconfig import common
from nnet.xconfig.layer import Layer, LayerWithInput, input_dim
from nnet.xconfig.option import NOT_NEGATIVE, NOT_ZERO, POSITIVE, PROPORTION, REQUIRED, Option

AFFINE = "NaturalGradientAffineComponent"
SCALE = "NaturalGradientPerElementScaleComponent"
PRODUCT = "ElementwiseProductComponent"
TRUNCATION = "BackpropTruncationComponent"

_CELLS = "number of memory cells"


class Recurrent(LayerWithInput):
    """A layer that reads what it gave `delay` frames away."""

    cell_dim = Option(integer, input_dim, _CELLS, unset=-1, check=POSITIVE)
    delay = Option(
        integer,
        -1,
        "frames to what the layer remembers; negative for the past, positive for the future",
        check=NOT_ZERO,
    )
    clipping_threshold = Option(
        real, 30.0, "norm to which derivatives are clipped", check=NOT_NEGATIVE
    )
    zeroing_threshold = Option(
        real, 15.0, "norm above which derivatives of a frame are zeroed", check=NOT_NEGATIVE
    )
    zeroing_interval = Option(
        integer, 20, "frames between two frames where derivatives may be zeroed", check=POSITIVE
    )

    @property
    def recurrent_dim(self) -> int:
        """Number of columns of its output that the layer remembers."""
        return self.cell_dim

    @property
    def truncation(self) -> dict[str, Any]:
        """Settings of the component that keeps derivatives from blowing up."""
        keys = ("clipping-threshold", "zeroing-threshold", "zeroing-interval")
        return {**self.passed(*keys), "recurrence-interval": abs(self.delay)}


def affine_dims(source: int, dim: int) -> dict[str, int]:
    return {"input-dim": source, "output-dim": dim}


def product_dims(dim: int) -> dict[str, int]:
    """The dimensions of an ElementwiseProductComponent of two things of `dim` columns."""
    return {"input-dim": 2 * dim, "output-dim": dim}


def quarter_of_cells(layer: Layer) -> int:
    """a quarter of cell-dim"""
    return _projected(layer).cell_dim // 4


def recurrent_projection(layer: Layer) -> int:
    """recurrent-projection-dim"""
    return _projected(layer).recurrent_projection_dim


def _projected(layer: Layer) -> Projected:
    if not isinstance(layer, Projected):
        raise TypeError(f"{layer} has no projection")
    return layer


class Projected(Recurrent):
    """A layer whose cells are projected: a part is remembered, all of it is the output."""

    cell_dim = Option(integer, REQUIRED, _CELLS, check=POSITIVE)
    recurrent_projection_dim = Option(
        integer,
        quarter_of_cells,
        "number of projected columns that the layer remembers",
        unset=-1,
        check=POSITIVE,
    )
    non_recurrent_projection_dim = Option(
        integer,
        recurrent_projection,
        "number of projected columns that are only output",
        unset=-1,
        check=POSITIVE,
    )

    @property
    def recurrent_dim(self) -> int:
        return self.recurrent_projection_dim

    @property
    def projection_dim(self) -> int:
        """Columns of the output."""
        return self.recurrent_projection_dim + self.non_recurrent_projection_dim

    def check(self) -> None:
        super().check()
        if self.recurrent_projection_dim == 0:
            raise self.wrong(
                "cell-dim",
                f"cell-dim (={self.cell_dim}) has no quarter for recurrent-projection-dim",
                expected="a cell-dim of 4 or more, or a recurrent-projection-dim",
            )
        if self.projection_dim > self.cell_dim:
            raise self.wrong(
                "recurrent-projection-dim",
                f"recurrent-projection-dim (={self.recurrent_projection_dim}) and "
                f"non-recurrent-projection-dim (={self.non_recurrent_projection_dim}) are "
                f"{self.projection_dim} together, more than cell-dim (={self.cell_dim})",
            )


class RepairedNonlinearities(Recurrent):
    """A layer of separate sigmoid and tanh components."""

    self_repair_scale_nonlinearity = Option(
        real,
        0.00001,
        "strength of the repair of saturated units",
        check=PROPORTION,
    )

    @property
    def repair(self) -> dict[str, str]:
        """Settings of a nonlinearity after `dim`."""
        return {"self-repair-scale": f"{self.self_repair_scale_nonlinearity:.10f}"}


class Regularized(Recurrent):
    """A layer whose matrices have l2 regularization."""

    l2_regularize = common.l2_regularize()

    @property
    def regularization(self) -> dict[str, Any]:
        """The setting for a component; none where it is zero."""
        return self.passed("l2-regularize") if self.l2_regularize != 0.0 else {}


class Decaying(Recurrent):
    """A layer whose memory can fade on its own."""

    decay_time = Option(
        real, -1.0, "frames in which the memory fades to 1/e; negative for no fading"
    )

    @property
    def truncation(self) -> dict[str, Any]:
        fading = self.decay_time >= 0
        scale = 1.0 - abs(self.delay) / self.decay_time if fading else 1.0
        return {**super().truncation, "scale": scale}

    def check(self) -> None:
        super().check()
        if 0 <= self.decay_time <= abs(self.delay):
            raise self.wrong(
                "decay-time",
                f"decay-time (={self.decay_time}) must be more than the {abs(self.delay)} frames "
                "of delay",
                hint="leave decay-time out for a memory that does not fade",
            )


def drawn_scales(written: str) -> dict[str, float]:
    """How a diagonal matrix starts, where its settings do not say it themselves."""
    if "param-mean" in written or "param-stddev" in written:
        return {}
    return {"param-mean": 0.0, "param-stddev": 1.0}


def gate_dropout_proportion() -> Option[float]:
    doc = "share of the gates that dropout sets to zero; -1 for no dropout component"
    return Option(real, -1.0, doc, check=PROPORTION)


def gate_dropout_per_frame(default: bool) -> Option[bool]:
    return Option(true_or_false, default, "whether dropout zeroes all the gates of a frame at once")
