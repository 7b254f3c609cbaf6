"""What a new component is made from: what its config line says, and where numbers come from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnet.components.field import LARGEST
from nnet.errors import NnetError
from nnet.limits import LARGEST_DRAWN, above, check_array

FARTHEST = 10.0  # standard deviations: no sample is further away

ReadArray = Callable[[str], np.ndarray]


def _no_files(filename: str) -> np.ndarray:
    raise NnetError(f"{filename}: cannot be read: no reader of matrices and vectors was given")


@dataclass(frozen=True)
class Initializer:
    """Where initial parameters come from.

    Args:
        rng: source of the random ones; None for constants in their place, where only the
            network's structure counts.
        read_matrix: reads a Kaldi matrix file, to a float32 array (rows, columns).
        read_vector: reads a Kaldi vector file, to a float32 array (dim,).
    """

    rng: np.random.Generator | None
    read_matrix: ReadArray = _no_files
    read_vector: ReadArray = _no_files
    drawn: list[int] = field(default_factory=list, repr=False)
    """The sizes of the arrays so far."""

    def normal(self, *shape: int, stddev: float = 1.0, mean: float = 0.0) -> np.ndarray:
        """float32 samples of a normal distribution."""
        check_array(*shape)
        self.drawn.append(math.prod(shape))
        if sum(self.drawn) > LARGEST_DRAWN:
            raise NnetError(
                above("the number of initial parameters", sum(self.drawn), LARGEST_DRAWN)
            )
        if FARTHEST * abs(stddev) + abs(mean) > LARGEST:
            raise NnetError(
                f"initial parameters with mean {mean:g} and standard deviation {stddev:g} do not "
                "fit in 32 bits"
            )
        if self.rng is None:
            return np.full(shape, mean, np.float32) if mean else np.zeros(shape, np.float32)
        samples = self.rng.standard_normal(shape, dtype=np.float32)
        samples *= np.float32(stddev)
        samples += np.float32(mean)
        return samples


@dataclass(frozen=True)
class Given:
    """What a config line says, converted and checked.

    `fields` holds the fields of the component by attribute name, only those given; looking up a
    key (`given["param-stddev"]`) finds a setting, or its default.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.settings[key]
