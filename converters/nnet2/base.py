"""What every nnet2 component has."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import nnet.converters.nnet2
from nnet.components.affine import affine_from_file, initial_linear
from nnet.components.field import NOT_NEGATIVE, Kind, single, stored
from nnet.converters.legacy import ComponentTypes, LegacyComponent

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer

TYPES = ComponentTypes()


@functools.cache
def nnet2_types() -> ComponentTypes:
    """All component types of nnet2, from every file of this folder."""
    for module in pkgutil.iter_modules(nnet.converters.nnet2.__path__):
        importlib.import_module(f"nnet.converters.nnet2.{module.name}")
    return TYPES


@dataclass(kw_only=True, eq=False)
class Nnet2Component(LegacyComponent):
    """A component of nnet2; `forward` gives fewer rows than it gets if it reads several."""

    @property
    def offsets(self) -> tuple[int, ...]:
        """The frames that are read, relative to the output frame, in order."""
        return (0,)


@dataclass(kw_only=True, eq=False)
class Updatable(Nnet2Component):
    """A component with parameters to train."""

    learning_rate: float = stored(
        Kind.REAL,
        "<LearningRate>",
        "learning rate",
        key="learning-rate",
        default=single(0.001),
        check=NOT_NEGATIVE,
    )


def initial_affine(given: Given, init: Initializer) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and bias from a file, or random ones."""
    if given["matrix"] is not None:
        return affine_from_file(given, init)
    linear = initial_linear(given, init)
    return linear, init.normal(given["output-dim"], stddev=given["bias-stddev"])
