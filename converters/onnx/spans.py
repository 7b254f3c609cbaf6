"""Times of rows in a model whose length is not known yet.

All times are relative to 0, the first output, and to `last`, the last one, which is known when
the model runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd


@dataclass(frozen=True)
class Span:
    """The times `first, first + step, ...` up to `last + beyond`."""

    first: int
    beyond: int
    step: int = 1

    def shifted(self, by: int) -> Span:
        return Span(self.first + by, self.beyond + by, self.step)

    def union(self, other: Span | None) -> Span:
        """The smallest span that holds both."""
        if other is None:
            return self
        step = gcd(self.step, other.step, self.first - other.first)
        return Span(min(self.first, other.first), max(self.beyond, other.beyond), step)

    def within(self, limits: Span | None) -> Span:
        """Those of these times that are inside the ends of `limits` (None: no limits)."""
        if limits is None:
            return self
        first = self.first
        if first < limits.first:
            first += -(-(limits.first - first) // self.step) * self.step
        return Span(first, min(self.beyond, limits.beyond), self.step)

    def aligned(self, modulus: int) -> Span:
        """The multiples of `modulus` that the times, rounded down, fall on."""
        return Span(self.first - self.first % modulus, self.beyond, modulus)


def meet(spans: list[Span | None]) -> Span | None:
    """What is inside the ends of all; None stands for all times."""
    result: Span | None = None
    for span in spans:
        if span is not None:
            result = span if result is None else result.within(span)
    return result
