"""Functions of single numbers, in each form in which they run.

A function that is added here can follow an affine transform in one pass (`Epilogue.activation`)
and be written to ONNX. Its name is also that of the component's declaration
(`nnet.components.nonlinearity.Elementwise.function`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Operator = Callable[..., Any]
"""Adds an ONNX operator by its type and inputs; gives its output."""

_aten = torch.ops.aten


def _no_push(y: Tensor) -> Tensor:
    raise TypeError("self-repair of this function is not known in recurrences")


@dataclass(frozen=True, kw_only=True)
class ElementFunction:
    """A function of single numbers, with its derivative.

    Attributes:
        value: the function, by torch.
        in_place: the same, written over its argument.
        slope: the derivative, from the function's outputs or, with `slope_of_input`, its inputs.
        backward: the derivative with respect to the input, from that for the output and what
            `slope` reads.
        triton: an expression of x, float32, in Triton's language; NaN stays NaN.
        slope_text: the slope as an expression of the output y, in Triton's language, and for the
            functions of cells in C++ too; '' if no recurrence has the function.
        push: what self-repair pushes by in a recurrence, from the function's outputs.
        push_text: the push, as `slope_text` has the slope.
        onnx: from a way to add operators and the name of x to the name of the result.
    """

    value: Callable[[Tensor], Tensor]
    in_place: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    triton: str
    onnx: Callable[[Operator, str], str]
    slope_of_input: bool = False
    slope_text: str = ""
    push: Callable[[Tensor], Tensor] = _no_push
    push_text: str = ""

    def kept(self, x: Tensor, y: Tensor) -> Tensor:
        """What `slope` reads: the input `x` or the output `y`."""
        return x if self.slope_of_input else y


def _swish_slope(x: Tensor) -> Tensor:
    share = x.sigmoid()
    return share + x * share * (1 - share)


_DECAY = "tl.exp(-2 * tl.abs(x))"

FUNCTIONS: Mapping[str, ElementFunction] = MappingProxyType(
    {
        "relu": ElementFunction(
            value=torch.relu,
            in_place=torch.relu_,
            slope=torch.sign,
            backward=lambda gradient, y: _aten.threshold_backward(gradient, y, 0),
            triton="tl.where(x < 0, 0.0, x)",
            onnx=lambda op, x: op("Relu", x),
            slope_text="tl.where(y > 0, 1.0, 0.0)",
            push=torch.ones_like,
            push_text="tl.full(y.shape, 1.0, tl.float32)",
        ),
        "sigmoid": ElementFunction(
            value=torch.sigmoid,
            in_place=torch.sigmoid_,
            slope=lambda y: y * (1.0 - y),
            backward=_aten.sigmoid_backward,
            triton="tl.sigmoid(x)",
            onnx=lambda op, x: op("Sigmoid", x),
            slope_text="y * (1 - y)",
            push=lambda y: 2 * y - 1,
            push_text="2 * y - 1",
        ),
        "tanh": ElementFunction(
            value=torch.tanh,
            in_place=torch.tanh_,
            slope=lambda y: 1.0 - y * y,
            backward=_aten.tanh_backward,
            triton=f"tl.where(x < 0, -1.0, 1.0) * (1 - {_DECAY}) / (1 + {_DECAY})",
            onnx=lambda op, x: op("Tanh", x),
            slope_text="1 - y * y",
            push=lambda y: y,
            push_text="y",
        ),
        "swish": ElementFunction(
            value=functional.silu,
            in_place=lambda x: functional.silu(x, inplace=True),
            slope=_swish_slope,
            backward=_aten.silu_backward,
            triton="x * tl.sigmoid(x)",
            onnx=lambda op, x: op("Mul", x, op("Sigmoid", x)),
            slope_of_input=True,
        ),
    }
)
"""By name."""
