"""Options that many layer types have, each declared once."""

from __future__ import annotations

from nnet.text.values import integer, real
from nnet.xconfig.layer import input_dim
from nnet.xconfig.option import NOT_NEGATIVE, POSITIVE, PROPORTION, Option, Passed

MAX_CHANGE = "limit on the change of the parameters by one minibatch"
L2_REGULARIZE = "l2 regularization of the parameters"
MATRIX_STDDEV = "initial standard deviation of the matrix"
BIAS_STDDEV = "initial standard deviation of the bias"
LEARNING_RATE_FACTOR = "factor on the learning rate"


def output_dim() -> Option[int]:
    """`dim`, by default the dimension of the input."""
    doc = "number of columns of the output"
    return Option(integer, input_dim, doc, unset=-1, check=POSITIVE)


def bottleneck_dim() -> Option[int]:
    """`bottleneck-dim` of a matrix that may be split in two."""
    return Option(integer, -1, "dimension between two factors; -1 for one matrix")


def max_change(default: float = 0.75) -> Option[float]:
    return Option(real, default, MAX_CHANGE, check=NOT_NEGATIVE)


def l2_regularize() -> Option[float]:
    return Option(real, 0.0, L2_REGULARIZE, check=NOT_NEGATIVE)


def self_repair_scale() -> Option[float]:
    return Option(real, 1.0e-05, "strength of the repair of saturated units", check=PROPORTION)


def stddev(default: float, doc: str) -> Option[float]:
    return Option(real, default, doc, check=NOT_NEGATIVE)


def passed_not_negative(doc: str) -> Passed:
    """A number of zero or more for the component, as it is written."""
    return Passed(real, doc, check=NOT_NEGATIVE)


def passed_orthonormal_constraint() -> Passed:
    return Passed(
        real, "scale of an orthonormal constraint on the rows; negative for a floating scale"
    )
