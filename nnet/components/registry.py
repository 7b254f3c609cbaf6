"""Component types by name. A family's file registers its types.

The types are nnet3's, 46 in all, each of which has the suffix `Component` in files:

- Affine: Affine, BlockAffine, FixedAffine, Linear, NaturalGradientAffine,
  NaturalGradientRepeatedAffine, RepeatedAffine, Tdnn.
- Scales and offsets: FixedBias, FixedScale, NaturalGradientPerElementScale, PerElementOffset,
  PerElementScale, ScaleAndOffset.
- Constants: Constant, ConstantFunction.
- Nonlinearities: LogSoftmax, Pnorm, RectifiedLinear, Sigmoid, Softmax, Tanh.
- Normalization: BatchNorm, Normalize.
- Columns: Distribute, ElementwiseProduct, NoOp, Permute, SumBlock, SumGroup.
- Images: Convolution, Maxpooling, TimeHeightConvolution.
- Time: RestrictedAttention, StatisticsExtraction, StatisticsPooling.
- Recurrence: BackpropTruncation, ClipGradient, GruNonlinearity, LstmNonlinearity,
  OutputGruNonlinearity.
- Randomness: Dropout, DropoutMask, GeneralDropout, SpecAugmentTimeMask.
- Others in one: Composite.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import TypeVar

import nnet.components
from nnet.components.base import Component
from nnet.components.field import REQUIRED

C = TypeVar("C", bound=type[Component])

_types: dict[str, type[Component]] = {}


def register(type_name: str) -> Callable[[C], C]:
    """Class decorator: makes a component type known by its name in config and model files."""

    def decorate(cls: C) -> C:
        if type_name in _types:
            raise TypeError(f"{type_name} is registered twice")
        cls.type_name = type_name
        cls.__doc__ = f"{cls.__doc__ or ''}\n\n{document(cls)}"
        _types[type_name] = cls
        return cls

    return decorate


@functools.cache
def component_types() -> dict[str, type[Component]]:
    """All component types by name, from every file of `nnet/components`."""
    for module in pkgutil.iter_modules(nnet.components.__path__):
        importlib.import_module(f"nnet.components.{module.name}")
    return dict(sorted(_types.items()))


def document(cls: type[Component]) -> str:
    """The keys of a component type in config files, with defaults and meaning, one a line."""
    lines = ["Config keys:"]
    for setting in cls.settings:
        lines.append(f"    {setting.key} ({setting.kind.value}): {setting.doc}.")
    for spec in cls.specs().values():
        if spec.key is None:
            continue
        default = "" if callable(spec.default) else f" Default: {spec.default}."
        if spec.default is REQUIRED:
            default = " Required."
        lines.append(f"    {spec.key} ({spec.kind.value}): {spec.doc}.{default}")
    return "\n".join(lines)
