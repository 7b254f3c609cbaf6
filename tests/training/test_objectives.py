"""nnet3's objectives. Kaldi: ComputeObjectiveFunction in nnet3/nnet-training.cc."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnet.data.minibatch import DenseTargets, SparseTargets
from nnet.training.objectives import linear, quadratic

RANDOM = np.random.default_rng(0)
OUTPUT = torch.tensor(RANDOM.standard_normal((2, 3, 4)), dtype=torch.float32)
SPARSE = SparseTargets(
    ids=torch.tensor([[[0, 1], [3, 0], [2, 0]], [[1, 0], [1, 0], [0, 2]]]),
    weights=torch.tensor(
        [[[0.25, 0.75], [1.0, 0.0], [0.5, 0.0]], [[1.0, 0.0], [0.0, 0.0], [0.4, 0.6]]]
    ),
)
VALUES = torch.tensor(RANDOM.random((2, 3, 4)), dtype=torch.float32)
WEIGHTS = torch.tensor([[1.0, 1.0, 0.5], [1.0, 0.0, 0.0]])


def dense_of_sparse() -> np.ndarray:
    full = np.zeros((2, 3, 4))
    for b in range(2):
        for t in range(3):
            for i, w in zip(SPARSE.ids[b, t].tolist(), SPARSE.weights[b, t].tolist(), strict=True):
                full[b, t, i] += w
    return full


def test_linear_is_the_dot_product_of_targets_and_output() -> None:
    score = linear(OUTPUT, SPARSE)
    full = dense_of_sparse()
    assert score.total.item() == pytest.approx((full * OUTPUT.numpy()).sum())
    assert score.weight.item() == pytest.approx(full.sum())
    right = OUTPUT.numpy().argmax(-1) == full.argmax(-1)
    assert score.correct is not None
    assert score.correct.item() == pytest.approx((right * full.sum(-1)).sum())


def test_linear_with_matrices_weighs_rows_by_their_sum() -> None:
    score = linear(OUTPUT, DenseTargets(VALUES, WEIGHTS))
    scaled = (VALUES * WEIGHTS[..., None]).numpy()
    assert score.total.item() == pytest.approx((scaled * OUTPUT.numpy()).sum(), rel=1e-5)
    assert score.weight.item() == pytest.approx(scaled.sum(), rel=1e-5)


def test_quadratic_is_minus_half_the_squared_distance() -> None:
    score = quadratic(OUTPUT, DenseTargets(VALUES, WEIGHTS))
    distance = ((VALUES - OUTPUT).numpy() ** 2).sum(-1)
    assert score.total.item() == pytest.approx(-0.5 * (distance * WEIGHTS.numpy()).sum(), rel=1e-5)
    assert score.weight.item() == 3.5
    assert score.correct is None


def test_quadratic_takes_posteriors_as_vectors_and_leaves_out_frames_without() -> None:
    score = quadratic(OUTPUT, SPARSE)
    distance = ((dense_of_sparse() - OUTPUT.numpy()) ** 2).sum(-1)
    distance[1, 1] = 0.0
    assert score.total.item() == pytest.approx(-0.5 * distance.sum(), rel=1e-5)
    assert score.weight.item() == 5


def test_the_gradient_of_linear_is_the_target() -> None:
    output = OUTPUT.clone().requires_grad_()
    linear(output, SPARSE).total.backward()
    assert output.grad is not None
    np.testing.assert_allclose(output.grad.numpy(), dense_of_sparse(), atol=1e-7)
