"""Phone errors: what was recognised against what was said."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Errors:
    """Phones wrong, missing or too many, and phones said."""

    wrong: int = 0
    said: int = 0

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(self.wrong + other.wrong, self.said + other.said)

    @property
    def percent(self) -> float:
        """The phone error rate."""
        return 100 * self.wrong / max(1, self.said)


def errors(said: Sequence[int], recognised: Sequence[int], silence: int) -> Errors:
    """The fewest changes from one sequence to the other; silence does not count."""
    true, found = ([p for p in phones if p != silence] for phones in (said, recognised))
    costs = np.arange(len(found) + 1)
    places = np.arange(len(found) + 1)
    for phone in true:
        stays = costs[:-1] + (np.array(found, int) != phone)
        best = np.minimum(np.append(costs[0], stays) + np.append(1, np.zeros(len(found), int)),
                          costs + 1)  # fmt: skip
        costs = np.minimum.accumulate(best - places) + places
    return Errors(int(costs[-1]), len(true))
