"""Natural gradient against its definition, one vector at a time in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nnet.training.natural_gradient.online import (
    OnlineNaturalGradient,
    Smoothing,
    update_estimates,
)
from nnet.training.natural_gradient.orthonormal import constrain_orthonormal
from nnet.training.natural_gradient.vectors import Vectors


class Definition:
    """The paper's appendix, with F and its inverse written out as whole matrices."""

    def __init__(self, dim: int, smoothing: Smoothing) -> None:
        self.dim, self.settings = dim, smoothing
        self.rank = min(smoothing.rank, dim - 1)
        r = np.zeros((self.rank, dim))
        for column in range(dim):
            r[column % self.rank, column] = 1.0 if column >= self.rank else 1.1
        self.r = r / np.linalg.norm(r, axis=1, keepdims=True)
        self.d, self.rho = np.full(self.rank, 1e-10), 1e-10
        self.t = 0

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, float]:
        """Preconditioned rows, and the factor that keeps their norm."""
        if self.t == 0:
            for _ in range(1 if len(x) <= self.rank else 3):
                self.update(x)
        f_trace = self.dim * self.rho + self.d.sum()
        beta = self.rho + self.settings.alpha / self.dim * f_trace
        g = self.r.T @ np.diag(self.d) @ self.r + beta * np.eye(self.dim)
        result = beta * x @ np.linalg.inv(g)
        later = self.t - 10
        if later <= 0 or later % self.settings.update_period == 0:
            self.update(x)
        self.t += 1
        return result, float(np.sqrt((x**2).sum() / (result**2).sum()))

    def update(self, x: np.ndarray) -> None:
        eta = min(1 - np.exp(-len(x) / self.settings.num_samples_history), 0.9)
        f = self.r.T @ np.diag(self.d) @ self.r + self.rho * np.eye(self.dim)
        smoothed = eta * x.T @ x / len(x) + (1 - eta) * f
        y = self.r @ smoothed
        c, u = np.linalg.eigh(y @ y.T)
        c, u = np.maximum(c[::-1], ((1 - eta) * self.rho) ** 2), u[:, ::-1]
        self.r = (u.T @ y) / np.sqrt(c)[:, None]
        rho = (np.trace(smoothed) - np.sqrt(c).sum()) / (self.dim - self.rank)
        least = max(1e-10, 5e-4 * np.sqrt(c).max())
        self.d, self.rho = np.maximum(np.sqrt(c) - rho, least), max(rho, least)


def minibatches(dim: int, count: int, rows: int = 50) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    spread = random.standard_normal((dim, dim)) * 0.8 ** np.arange(dim)
    return [random.standard_normal((rows, dim)) @ spread.T for _ in range(count)]


def vectors(x: np.ndarray, ones: bool = False) -> Vectors:
    rows = torch.from_numpy(x.astype(np.float32)).unsqueeze(0)
    return Vectors([(rows[..., :-1] if ones else rows, 1.0)], ones)


def one_minibatch(estimate: OnlineNaturalGradient, parts: list[Vectors], matrix: Tensor) -> Tensor:
    """`matrix` times P and the factor."""
    for part in parts:
        estimate.observe(part)
    estimate.settle()
    result = matrix.clone()
    estimate.multiply(result)
    result *= estimate.factor().float()
    if estimate.updating:
        update_estimates([estimate])
    estimate.finish()
    return result


@pytest.mark.parametrize("rank", [1, 3, 11, 40])
def test_gradients_are_multiplied_as_by_definition(rank: int) -> None:
    smoothing = Smoothing(rank, update_period=3, num_samples_history=300.0, alpha=2.0)
    definition = Definition(12, smoothing)
    estimate = OnlineNaturalGradient(12, smoothing)
    for x in minibatches(12, 25):
        expected, factor = definition(x)
        given_rows = torch.from_numpy(x.astype(np.float32))
        found = one_minibatch(estimate, [vectors(x)], given_rows)
        np.testing.assert_allclose(found, expected * factor, rtol=2e-3, atol=2e-4 * abs(x).max())


def test_a_minibatch_may_come_in_parts() -> None:
    smoothing = Smoothing(4)
    whole, parts = (OnlineNaturalGradient(12, smoothing) for _ in range(2))
    parts.summed = True
    matrix = torch.eye(12)
    for x in minibatches(12, 15):
        a = one_minibatch(whole, [vectors(x)], matrix)
        b = one_minibatch(parts, [vectors(x[:20]), vectors(x[20:])], matrix)
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 5), st.booleans(), st.integers(0, 2**20))
def test_spliced_rows_are_the_same_side_by_side(
    times: int, batch: int, ones: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    pieces = [torch.randn(times + 1, batch, 3, generator=generator) for _ in range(2)]
    once = torch.randn(1, batch, 2, generator=generator)
    rows = Vectors([(pieces[0][1:], 1.0), (once, 0.5), (pieces[1][:-1], 2.0)], ones)
    columns = [pieces[0][1:], 0.5 * once.expand(times, -1, -1), 2.0 * pieces[1][:-1]]
    whole = torch.cat(columns, -1).reshape(times * batch, -1)
    whole = torch.cat((whole, torch.ones(len(whole), 1)), -1) if ones else whole
    matrix = torch.randn(3, rows.dim, generator=generator)
    weights = torch.randn(times * batch, 3, generator=generator)
    assert rows.count == len(whole)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(rows.projected(matrix), whole @ matrix.t(), **close)
    torch.testing.assert_close(rows.weighted(weights), weights.t() @ whole, **close)
    torch.testing.assert_close(rows.scatter(), whole.t() @ whole, **close)
    torch.testing.assert_close(rows.power().float(), whole.square().sum(), **close)


def test_the_last_column_may_be_a_bias() -> None:
    x = minibatches(8, 1)[0]
    x[:, -1] = 1.0
    plain, split = (OnlineNaturalGradient(8, Smoothing(3)) for _ in range(2))
    matrix = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    plain.observe(vectors(x))
    split.observe(vectors(x, ones=True))
    for estimate in (plain, split):
        estimate.settle()
    whole, body, last = matrix.clone(), matrix[:, :-1].clone(), matrix[:, -1].clone()
    plain.multiply(whole)
    split.multiply(body, last)
    torch.testing.assert_close(torch.cat((body, last[:, None]), 1), whole, rtol=1e-4, atol=1e-5)


def test_vectors_of_one_element_are_left_alone() -> None:
    estimate = OnlineNaturalGradient(1, Smoothing(20))
    estimate.observe(vectors(np.ones((3, 1))))
    estimate.settle()
    matrix = torch.ones(2, 1)
    estimate.multiply(matrix)
    assert matrix.tolist() == [[1.0], [1.0]]
    assert not estimate.updating


def test_a_frozen_estimate_does_not_change_but_counts() -> None:
    estimate = OnlineNaturalGradient(6, Smoothing(2))
    data = minibatches(6, 3)
    one_minibatch(estimate, [vectors(data[0])], torch.eye(6))
    estimate.frozen = True
    before = estimate.state()
    one_minibatch(estimate, [vectors(data[1])], torch.eye(6))
    after = estimate.state()
    assert after["minibatches"] == before["minibatches"] + 1
    assert torch.equal(after["w"], before["w"])


def test_zeros_give_zeros_and_no_harm() -> None:
    estimate = OnlineNaturalGradient(6, Smoothing(2))
    for _ in range(15):
        found = one_minibatch(estimate, [vectors(np.zeros((9, 6)))], torch.zeros(2, 6))
        assert not found.any()
    x = minibatches(6, 1)[0]
    assert one_minibatch(estimate, [vectors(x)], torch.eye(6)).isfinite().all()


def test_rank_deficient_vectors_keep_the_rows_orthonormal() -> None:
    estimate = OnlineNaturalGradient(10, Smoothing(6))
    for x in minibatches(10, 30):
        x[:, 2:] = x[:, :1]
        one_minibatch(estimate, [vectors(x)], torch.eye(10))
    beta = estimate.rho * 5 + 4 * estimate.d.sum() / 10
    root_e = (1 / (beta / estimate.d + 1)).sqrt()
    r = estimate.w.double() / root_e[:, None]
    torch.testing.assert_close(r @ r.t(), torch.eye(6, dtype=torch.float64), atol=5e-3, rtol=0)


def test_a_minibatch_that_is_not_finite_leaves_the_estimate() -> None:
    estimate = OnlineNaturalGradient(6, Smoothing(2))
    data = minibatches(6, 2)
    one_minibatch(estimate, [vectors(data[0])], torch.eye(6))
    before = estimate.w.clone()
    bad = data[1].copy()
    bad[3, 2] = np.nan
    one_minibatch(estimate, [vectors(bad)], torch.eye(6))
    assert torch.equal(estimate.w, before)


@pytest.mark.parametrize("constraint", [-1.0, 1.0, 0.7])
@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_the_orthonormal_constraint_follows_its_paper(
    constraint: float, shape: tuple[int, int]
) -> None:
    random = np.random.default_rng(2)
    q = np.linalg.qr(random.standard_normal((9, 4)))[0]
    m = abs(constraint) * (q + 0.05 * random.standard_normal((9, 4)))
    m = m.T if shape == (4, 9) else m
    matrix = torch.from_numpy(m.astype(np.float32))
    rows = m if m.shape[0] < m.shape[1] else m.T
    for _ in range(30):
        p = rows @ rows.T
        scale2 = np.trace(p @ p) / np.trace(p) if constraint < 0 else constraint**2
        ratio = np.trace(p @ p) * len(p) / np.trace(p) ** 2
        speed = 0.125
        if constraint < 0:
            speed *= (0.5 if ratio > 1.02 else 1.0) * (0.5 if ratio > 1.1 else 1.0)
        rows = rows - 4 * speed / scale2 * (p - scale2 * np.eye(len(p))) @ rows
        constrain_orthonormal(matrix, constraint)
    found = matrix.numpy() if m.shape[0] < m.shape[1] else matrix.numpy().T
    np.testing.assert_allclose(found, rows, atol=1e-5)
    np.testing.assert_allclose(found @ found.T, scale2 * np.eye(4), atol=1e-3)
