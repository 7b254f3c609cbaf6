"""Options of the tests of kernels."""

import pytest
import torch

from nnet.kernels.affine import derivative_products, spliced_blocks
from nnet.kernels.affine import product as matrix_product


@pytest.fixture(autouse=True)
def poisoned_memory():
    """New memory is NaN: what a kernel does not write, or reads before, shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(params=["units", "torch"])
def small_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks; by matrix units where the processor has them, and as elsewhere."""
    monkeypatch.setattr(spliced_blocks, "BLOCK_BYTES", 6000)
    if request.param == "torch":
        for module in (matrix_product, derivative_products):
            monkeypatch.setattr(module, "_library", lambda: None)
    for name in ("LEAST", "LONGER", "MULTIPLICATIONS"):
        monkeypatch.setattr(matrix_product, name, 2)
