"""What the components of nnet1 and nnet2 have in common.

They declare their fields as those of nnet3 do (`nnet.components.field.stored`), and have a
reference forward: what the legacy program computes, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from nnet.components.base import Component
from nnet.components.field import FieldError

Rows = npt.NDArray[np.float64]
"""`(frames, dim)`."""

LARGEST_DIM = 10_000_000

L = TypeVar("L", bound="type[LegacyComponent]")


@dataclass(kw_only=True, eq=False)
class LegacyComponent(Component):
    """A component of an nnet1 or nnet2 model, as its file holds it."""

    def forward(self, rows: Rows) -> Rows:
        """What the legacy program computes from the rows `(frames, input_dim)` of an utterance.

        Random components give their expected value. Returns `(frames, output_dim)`.
        """
        raise NotImplementedError


class ComponentTypes(dict[str, type[LegacyComponent]]):
    """The component types of one toolkit by their name in files."""

    def register(self, type_name: str) -> Callable[[L], L]:
        """Class decorator: makes a type known by its name."""

        def decorate(cls: L) -> L:
            if type_name in self:
                raise TypeError(f"{type_name} is registered twice")
            cls.type_name = type_name
            self[type_name] = cls
            return cls

        return decorate


def check_shape(component: Component, name: str, *expected: int) -> None:
    """Raises FieldError unless array `name` has the expected shape."""
    shape = getattr(component, name).shape
    if shape != expected:
        key = name.replace("_", "-")
        found, wanted = (" x ".join(map(str, s)) for s in (shape, expected))
        raise FieldError(key, f"{key} is {found or 'empty'}, expected {wanted}")


def check_divides(part: int, whole: int, what: str) -> None:
    """Raises FieldError unless `whole` is a multiple of `part`, both positive."""
    if part <= 0 or whole <= 0 or whole % part != 0:
        raise FieldError(what, f"{what}: {whole} is not a multiple of {part}")
