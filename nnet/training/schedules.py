"""Learning-rate schedules: from the share of the training that is done to a learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """Where a schedule starts and ends, and the share of the training that warms up."""

    initial: float
    final: float
    warmup: float = 0.0


Schedule = Callable[[Rates, float], float]
SCHEDULES: dict[str, Schedule] = {}


def schedule(name: str) -> Callable[[Schedule], Schedule]:
    """Registers a schedule under the name that `--schedule` takes."""

    def register(function: Schedule) -> Schedule:
        SCHEDULES[name] = function
        return function

    return register


def learning_rate(name: str, rates: Rates, progress: float) -> float:
    """The learning rate when the share `progress` (0 to 1) of the minibatches is done.

    During the warm-up it rises linearly to the initial rate; the schedule has the rest.
    """
    if progress < rates.warmup:
        return rates.initial * (0.05 + 0.95 * progress / rates.warmup)
    rest = 1.0 - rates.warmup
    return SCHEDULES[name](rates, (progress - rates.warmup) / rest if rest else 1.0)


@schedule("exponential")
def exponential(rates: Rates, progress: float) -> float:
    """Kaldi's: the logarithm goes down in a straight line."""
    return rates.initial * math.exp(progress * math.log(rates.final / rates.initial))


@schedule("cosine")
def cosine(rates: Rates, progress: float) -> float:
    """Half a cosine wave (Loshchilov & Hutter 2017), without restarts."""
    return rates.final + (rates.initial - rates.final) * 0.5 * (1 + math.cos(math.pi * progress))
