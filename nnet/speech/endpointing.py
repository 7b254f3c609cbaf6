"""Where an utterance ends: Kaldi's five rules (online2/online-endpoint.h)."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.text.options_file import OptionsFile


@dataclass(frozen=True)
class EndpointRule:
    """One condition under which an utterance has ended.

    Args:
        must_contain_nonsilence: whether something must have been said.
        min_trailing_silence: seconds of silence at the end, at least.
        max_relative_cost: how much more the best path that ends may cost than the best one.
        min_utterance_length: seconds, at least.
    """

    must_contain_nonsilence: bool = True
    min_trailing_silence: float = 1.0
    max_relative_cost: float = math.inf
    min_utterance_length: float = 0.0

    def holds(self, trailing_silence: float, relative_cost: float, length: float) -> bool:
        return (
            (length > trailing_silence or not self.must_contain_nonsilence)
            and trailing_silence >= self.min_trailing_silence
            and relative_cost <= self.max_relative_cost
            and length >= self.min_utterance_length
        )


@dataclass(frozen=True)
class _Rule1(EndpointRule):
    must_contain_nonsilence: bool = False
    min_trailing_silence: float = 5.0


@dataclass(frozen=True)
class _Rule2(EndpointRule):
    min_trailing_silence: float = 0.5
    max_relative_cost: float = 2.0


@dataclass(frozen=True)
class _Rule3(EndpointRule):
    max_relative_cost: float = 8.0


@dataclass(frozen=True)
class _Rule4(EndpointRule):
    min_trailing_silence: float = 2.0


@dataclass(frozen=True)
class _Rule5(EndpointRule):
    must_contain_nonsilence: bool = False
    min_trailing_silence: float = 0.0
    min_utterance_length: float = 20.0


RULES = (_Rule1, _Rule2, _Rule3, _Rule4, _Rule5)


@dataclass(frozen=True)
class _SilencePhones:
    silence_phones: str = ""


@dataclass(frozen=True)
class Endpointing:
    """When an utterance has ended: where any of the rules holds.

    Args:
        silence_phones: what counts as silence; without any, no utterance ends by itself.
        rules: the conditions.
    """

    silence_phones: frozenset[int] = frozenset()
    rules: tuple[EndpointRule, ...] = field(default_factory=lambda: tuple(r() for r in RULES))

    @staticmethod
    def take(file: OptionsFile) -> Endpointing:
        """What a file's `--endpoint.…` options say.

        Raises:
            NnetError: a value is wrong.
        """
        words = file.take(_SilencePhones, "endpoint.").silence_phones.replace(":", " ").split()
        if not all(word.isdigit() for word in words):
            raise NnetError(
                f"{file.name}: --endpoint.silence-phones is '{':'.join(words)}'; expected: phones "
                "such as 1:2:3"
            )
        rules = tuple(
            file.take(rule, f"endpoint.rule{number}.") for number, rule in enumerate(RULES, 1)
        )
        return Endpointing(frozenset(map(int, words)), rules)

    def has_ended(self, trailing_silence: float, relative_cost: float, length: float) -> bool:
        """Whether any rule holds; times in seconds, the cost in nats."""
        return any(rule.holds(trailing_silence, relative_cost, length) for rule in self.rules)


def trailing_silence(
    transitions: NDArray[np.int32], phones: NDArray[np.int64], silence: Collection[int]
) -> int:
    """How many frames at the end of a path are silence.

    Args:
        transitions: a transition-id for each frame.
        phones: of each transition-id.
        silence: phones that are silence.
    """
    silent = np.isin(phones[transitions], list(silence))
    spoken = np.flatnonzero(~silent)
    return len(transitions) - (int(spoken[-1]) + 1 if len(spoken) else 0)
