"""What decides the result of a run, so that only the same run is resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from nnet.data.corpus import Corpus
from nnet.data.example_set import ExampleSet
from nnet.modelfile.model import Model, model_bytes
from nnet.training.options import TrainingOptions

Identity = dict[str, Any]


def identity_of(
    model: Model,
    train: Corpus | ExampleSet,
    valid: Corpus | ExampleSet | None,
    options: TrainingOptions,
    processes: int = 1,
) -> Identity:
    """Options, and checksums of network and data: plain values that JSON gives back unchanged."""
    return {
        "options": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in options.identity().items()
        },
        "processes": processes,
        "network": hashlib.sha256(model_bytes(model)).hexdigest(),
        "training data": train.fingerprint(),
        "validation data": None if valid is None else valid.fingerprint(),
    }


def differences(before: Identity, now: Identity, place: str = "") -> Iterator[str]:
    """One line for each entry that is not the same."""
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        where = f"{place}{name}"
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new, f"{where}: ")
        elif old != new:
            yield f"{where} was {old}, is {new}"
