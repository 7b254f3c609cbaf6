"""What a new component is made from: what its config line says, and where numbers come from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnet.errors import NnetError

MAX_ELEMENTS = 2**31 - 1

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

    def normal(self, *shape: int, stddev: float = 1.0, mean: float = 0.0) -> np.ndarray:
        """float32 samples of a normal distribution."""
        if math.prod(shape) > MAX_ELEMENTS:
            raise NnetError(f"{' x '.join(map(str, shape))} parameters do not fit in memory")
        if self.rng is None:
            return np.full(shape, mean, np.float32) if mean else np.zeros(shape, np.float32)
        samples = self.rng.standard_normal(shape, dtype=np.float32)
        return samples * np.float32(stddev) + np.float32(mean)


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
