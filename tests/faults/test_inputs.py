"""Damaged and extreme files that once ended in a traceback, hung or took all memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnet.modelfile.model import read_model
from tests.fuzz.guard import outcome
from tests.fuzz.targets import TARGETS

FAULTS = Path(__file__).parents[1] / "golden" / "faults"
FILES = sorted(path.name for path in FAULTS.glob("*.bin"))
WHOLE = "components/affine/init.raw"


@pytest.fixture(scope="module", autouse=True)
def all_is_loaded() -> None:
    """What is loaded once, torch above all, counts neither as time nor as memory."""
    data = (FAULTS.parent / WHOLE).read_bytes()
    assert read_model(data)
    for kind in ("raw_bin", "sem_compute", "sem_train", "den_fst"):
        outcome(TARGETS[kind], data, seconds=60)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_ends_in_success_or_one_error(name: str) -> None:
    assert outcome(TARGETS[name.rpartition("-")[0]], (FAULTS / name).read_bytes()) is None


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(("raw_bin", "sem"))])
@pytest.mark.parametrize("kind", ["raw_bin", "sem_compute", "sem_train"])
def test_an_extreme_model_passes_every_stage(name: str, kind: str) -> None:
    assert outcome(TARGETS[kind], (FAULTS / name).read_bytes()) is None
