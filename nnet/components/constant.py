"""Components whose output is a trained vector, whatever the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnet.components.base import Component, Updatable
from nnet.components.field import (
    NOT_NEGATIVE,
    POSITIVE,
    REQUIRED,
    FieldError,
    Kind,
    Role,
    Setting,
    stored,
)
from nnet.components.registry import register
from nnet.components.summary import mean_stddev, plain
from nnet.components.window import TimeWindow

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer

_SETTINGS = (
    Setting("output-dim", Kind.INTEGER, "number of columns made", REQUIRED, POSITIVE),
    Setting("output-mean", Kind.REAL, "mean of the initial output", 0.0),
    Setting(
        "output-stddev",
        Kind.REAL,
        "standard deviation of the initial output",
        0.0,
        NOT_NEGATIVE,
    ),
)
_INFO_ORDER = (*Updatable.info_order, "is_updatable", "use_natural_gradient", "output")


def _output_field() -> Any:
    return stored(
        Kind.VECTOR,
        "<Output>",
        "the output (output_dim,)",
        role=Role.PARAMETER,
        info=lambda c: mean_stddev("output", c.output),
    )


def _is_updatable_field() -> Any:
    return stored(
        Kind.BOOLEAN,
        "<IsUpdatable>",
        "whether the output is trained",
        key="is-updatable",
        default=True,
        info=_own_info,
    )


def _use_natural_gradient_field() -> Any:
    return stored(
        Kind.BOOLEAN,
        "<UseNaturalGradient>",
        "train with natural gradient",
        key="use-natural-gradient",
        default=True,
    )


def _own_info(component: Any) -> str:
    """nnet3 prints type and dimensions a second time before the fields of these types."""
    dims = ("input_dim",) if "input_dim" in component.specs() else ()
    parts = (plain(n.replace("_", "-"), getattr(component, n)) for n in (*dims, "output_dim"))
    return ", ".join((component.type_name, *parts, plain("is-updatable", component.is_updatable)))


class _ConstantOutput(Updatable):
    """What both types do with their vector, which is a parameter only if `is_updatable`."""

    output: np.ndarray
    is_updatable: bool

    @classmethod
    def create(cls, given: Given, init: Initializer) -> Any:
        stddev, mean = given["output-stddev"], given["output-mean"]
        output = init.normal(given["output-dim"], stddev=stddev, mean=mean)
        fields: dict[str, Any] = {"output": output, **given.fields}
        return cls(**fields)

    def parameters(self) -> dict[str, np.ndarray]:
        return super().parameters() if self.is_updatable else {}

    def scale(self, factor: float) -> None:
        if self.is_updatable:
            super().scale(factor)

    def weighted_sum(self, others: Sequence[Component], weights: Sequence[float]) -> Component:
        if self.is_updatable:
            return super().weighted_sum(others, weights)
        return self

    def check(self) -> None:
        super().check()
        if self.output.size == 0:
            raise FieldError("output", "the vector of outputs is empty")


@register("ConstantFunctionComponent")
@dataclass(kw_only=True, eq=False)
class ConstantFunction(_ConstantOutput):
    """y = output: a function of its input that is constant, kept for old models."""

    settings: ClassVar[tuple[Setting, ...]] = _SETTINGS
    info_order: ClassVar[tuple[str, ...]] = _INFO_ORDER

    input_dim: int = stored(
        Kind.INTEGER, "<InputDim>", "number of columns read", key="input-dim", check=POSITIVE
    )
    output: np.ndarray = _output_field()
    is_updatable: bool = _is_updatable_field()
    use_natural_gradient: bool = _use_natural_gradient_field()

    @property
    def output_dim(self) -> int:
        return int(self.output.size)


@register("ConstantComponent")
@dataclass(kw_only=True, eq=False)
class Constant(_ConstantOutput):
    """y = output at every time; it reads no input, though its node names one."""

    settings: ClassVar[tuple[Setting, ...]] = _SETTINGS
    info_order: ClassVar[tuple[str, ...]] = _INFO_ORDER

    output: np.ndarray = _output_field()
    is_updatable: bool = _is_updatable_field()
    use_natural_gradient: bool = _use_natural_gradient_field()

    @property
    def input_dim(self) -> int:
        return int(self.output.size)

    @property
    def output_dim(self) -> int:
        return int(self.output.size)

    @property
    def window(self) -> TimeWindow:
        return TimeWindow((), ())
