"""Options of the tests of kernels."""

from collections.abc import Iterator

import pytest
import torch

from nnet.kernels import native, native_choice
from nnet.kernels.affine import sizes, spliced_blocks
from nnet.kernels.implementation import Implementation


@pytest.fixture(autouse=True)
def poisoned_memory():
    """New memory is NaN: what a kernel does not write, or reads before, shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(params=native_choice.available())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each library that this machine can run, in turn."""
    with native.forced(request.param):
        yield request.param


@pytest.fixture(params=["native", "reference"])
def small_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Implementation:
    """Small blocks, all by matrix units where the processor has them; which implementation."""
    monkeypatch.setattr(spliced_blocks, "BLOCK_BYTES", 6000)
    for name in ("LEAST", "LONGER", "MULTIPLICATIONS"):
        monkeypatch.setattr(sizes, name, 2)
    found: Implementation = request.param
    return found
