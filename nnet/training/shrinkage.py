"""Scaling parameters down at the start of an iteration (train_rnn.py's shrink options)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.components.base import Component
from nnet.graph.network import Network

LARGEST_SLOPES: dict[str, NDArray[np.float64]] = {
    "SigmoidComponent": np.array([0.25]),
    "TanhComponent": np.array([1.0]),
    "LstmNonlinearityComponent": np.array([0.25, 0.25, 1.0, 0.25, 1.0]),  # i_t, f_t, c_t, o_t, m_t
}
LEAST = 0.5
"""A scale that is not above this is a mistake."""


@dataclass(frozen=True)
class Shrinkage:
    """By which to scale the parameters.

    Args:
        proportional_shrink: times the learning rate, what is taken off in every iteration.
        shrink_value: the scale where nonlinearities are saturated, and in the first iteration.
        shrink_saturation_threshold: the saturation above which that is so.
    """

    proportional_shrink: float = 0.0
    shrink_value: float = 1.0
    shrink_saturation_threshold: float = 0.4

    @property
    def is_used(self) -> bool:
        return self.proportional_shrink != 0.0 or self.shrink_value != 1.0

    def scale(self, learning_rate: float, first: bool, saturated: Callable[[], float]) -> float:
        """The scale for an iteration.

        Args:
            learning_rate: of the iteration.
            first: whether it is the first one.
            saturated: measures the saturation, which is not always needed.
        """
        scale = 1.0 - self.proportional_shrink * learning_rate
        if self.shrink_value < scale and (first or saturated() > self.shrink_saturation_threshold):
            return self.shrink_value
        return scale


def saturation(network: Network) -> float:
    """How saturated sigmoids and tanhs are, from 0 to 1 (steps/nnet3/get_saturation.pl).

    For each kind of nonlinearity in each component, 1 minus the mean of its stored average
    derivatives over the largest possible one; the mean of all that have statistics, or 0.
    """
    found = [value for c in network.components.values() for value in _saturations(c)]
    return float(np.mean(found)) if found else 0.0


def _saturations(component: Component) -> Iterator[float]:
    count = getattr(component, "averaged_over", {}).get("deriv_avg")
    if count is None or not getattr(component, count):
        return
    stored: NDArray[np.float32] = vars(component)["deriv_avg"]
    slopes = np.atleast_2d(stored).astype(np.float64)
    kind = component.type_name
    if slopes.size and (kind in LARGEST_SLOPES or kind.endswith("GruNonlinearityComponent")):
        yield from 1.0 - slopes.mean(axis=1) / LARGEST_SLOPES.get(kind, np.ones(1))
