"""Features of many recordings: in threads, in order, with perturbed copies."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.speech.features import Features
from nnet.speech.perturbation import Perturbation, speed_prefix
from nnet.speech.recordings import Recording

S = TypeVar("S")
T = TypeVar("T")
Floats = NDArray[np.float32]
AHEAD = 4
"""Recordings a thread that are read ahead."""


@dataclass(frozen=True)
class ManyOptions:
    """How many recordings are treated.

    Args:
        perturbation: what is done to each; of its speeds every one makes a copy.
        vtln_warp: factor of vocal tract length normalization.
        seed: of everything random, together with the name of an utterance.
        num_threads: recordings that are computed at the same time.
    """

    perturbation: Perturbation
    vtln_warp: float = 1.0
    seed: int = 0
    num_threads: int = 1


def features_of_many(
    features: Features, recordings: Iterable[Recording], options: ManyOptions
) -> Iterator[tuple[str, Floats]]:
    """Names and frames, (frames, dim), in the order of the recordings.

    Copies with another speed follow each other, with Kaldi's prefixes such as `sp0.9-`.

    Raises:
        NnetError: with the name of the utterance.
    """
    perturbation = options.perturbation
    copies = [(speed_prefix(s), replace(perturbation, speeds=(s,))) for s in perturbation.speeds]
    jobs = ((recording, prefix, copy) for recording in recordings for prefix, copy in copies)

    def compute(job: tuple[Recording, str, Perturbation]) -> tuple[str, Floats]:
        recording, prefix, copy = job
        name, rate = prefix + recording.name, recording.sample_frequency
        samples = copy.apply(name, recording.samples, rate)
        seed = options.seed + zlib.crc32(name.encode())
        try:
            frames = features.compute(samples, rate, vtln_warp=options.vtln_warp, seed=seed)
        except NnetError as error:
            raise NnetError(f"utterance '{name}': {error}") from None
        return name, frames

    yield from in_threads(compute, jobs, options.num_threads)


def in_threads(function: Callable[[S], T], jobs: Iterable[S], num_threads: int) -> Iterator[T]:
    """Results in the order of the jobs, of which a few are done ahead."""
    if num_threads <= 1:
        yield from map(function, jobs)
        return
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(function, job))
                if len(waiting) > AHEAD * num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
