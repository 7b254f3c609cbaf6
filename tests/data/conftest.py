"""Small data sets on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnet.data.corpus import Sources
from nnet.data.writers import AlignmentWriter, MatrixWriter, VectorWriter

LENGTHS = {"a": 30, "b": 47, "c": 12}


@pytest.fixture
def features() -> dict[str, np.ndarray]:
    """Row t of an utterance holds t, then random numbers: (frames, 3)."""
    random = np.random.default_rng(0)
    result = {}
    for name, frames in LENGTHS.items():
        rows = random.standard_normal((frames, 3)).astype(np.float32)
        rows[:, 0] = np.arange(frames)
        result[name] = rows
    return result


@pytest.fixture
def make_sources(tmp_path: Path, features: dict[str, np.ndarray]) -> Callable[..., Sources]:
    """Writes features, alignments (frame t has target t mod 5) and i-vectors; gives Sources."""
    with MatrixWriter(f"ark,scp:{tmp_path}/feats.ark,{tmp_path}/feats.scp") as writer:
        for name, rows in features.items():
            writer.write(name, rows)
    with AlignmentWriter(f"ark:{tmp_path}/ali.ark") as alignments:
        for name, rows in features.items():
            alignments.write(name, np.arange(len(rows)) % 5)
    with VectorWriter(f"ark:{tmp_path}/ivectors.ark") as vectors:
        for number, name in enumerate(features):
            vectors.write(name, np.array([number, -number], np.float32))
    with MatrixWriter(f"ark:{tmp_path}/online.ark") as writer:
        for name, rows in features.items():
            count = -(-len(rows) // 10)
            writer.write(name, np.repeat(np.arange(count, dtype=np.float32), 2).reshape(-1, 2))

    def make(**changes: Any) -> Sources:
        given = {
            "feats": f"scp:{tmp_path}/feats.scp",
            "targets": f"ark:{tmp_path}/ali.ark",
            "feature_dim": 3,
            "output_dim": 5,
        }
        return Sources(**(given | changes))

    return make
