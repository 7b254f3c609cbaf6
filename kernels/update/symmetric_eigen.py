"""Eigenvalues and eigenvectors of small symmetric matrices, without waiting for the device.

torch.linalg.eigh asks a GPU whether it converged. The Triton kernel makes a fixed maximum of sweeps
of Jacobi's method with rotations in parallel (Brent & Luk 1985): about as exact, and asks nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnet.kernels.implementation import Implementation, triton_file, uses_triton

LARGEST = 128
"""Rows of the largest matrix that the kernel takes; larger ones are left to the reference."""


def symmetric_eigen(
    matrices: Tensor, *, implementation: Implementation = "reference"
) -> tuple[Tensor, Tensor]:
    """Eigenvalues, the largest first, and eigenvectors.

    Args:
        matrices: (batch, n, n), symmetric, float64, finite.
        implementation: `triton` for n up to 128.

    Returns:
        Values (batch, n), and vectors (batch, n, n), in columns.
    """
    if uses_triton(implementation) and matrices.shape[1] <= LARGEST:
        jacobi = triton_file("update.gpu.symmetric_eigen").jacobi
        diagonal, vectors = jacobi(matrices)
        values, order = diagonal.sort(dim=1, descending=True)
        rows = order.unsqueeze(2).expand_as(vectors)
        return values, vectors.gather(1, rows).mT
    values, vectors = torch.linalg.eigh(matrices)
    return values.flip(1), vectors.flip(2)
