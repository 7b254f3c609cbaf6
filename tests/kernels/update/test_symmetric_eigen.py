"""Jacobi's method finds what LAPACK finds."""

import pytest
import torch

from nnet.kernels.update.symmetric_eigen import symmetric_eigen
from tests.kernels.triton_cases import DEVICE


def matrices(batch, n):
    generator = torch.Generator().manual_seed(n)
    factors = torch.randn(batch, n, n, generator=generator, dtype=torch.float64)
    factors *= torch.logspace(0, -5, n, dtype=torch.float64).unsqueeze(1)
    found = factors @ factors.mT
    found[-1] = torch.eye(n, dtype=torch.float64)  # equal eigenvalues
    return found.to(DEVICE)


@pytest.mark.parametrize(("batch", "n"), [(2, 1), (2, 2), (3, 5), (2, 8), (2, 13)])
def test_values_and_vectors(batch, n):
    given = matrices(batch, n)
    values, vectors = symmetric_eigen(given, implementation="triton")
    expected, _ = symmetric_eigen(given)
    largest = expected[:, :1]
    assert ((values - expected).abs() / largest).max() < 1e-13
    again = vectors @ torch.diag_embed(values) @ vectors.mT
    torch.testing.assert_close(again, given, rtol=0, atol=1e-12 * float(largest.max()))
    identity = torch.eye(n, dtype=torch.float64, device=DEVICE).expand_as(given)
    torch.testing.assert_close(vectors.mT @ vectors, identity, rtol=0, atol=1e-12)


def test_the_operator():
    from nnet.kernels.update.gpu.symmetric_eigen import jacobi

    torch.library.opcheck(jacobi, (matrices(2, 3),))
