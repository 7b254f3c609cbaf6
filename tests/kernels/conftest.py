"""Options of the tests of kernels."""

import pytest
import torch


@pytest.fixture(autouse=True)
def poisoned_memory():
    """New memory is NaN: what a kernel does not write, or reads before, shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before)
