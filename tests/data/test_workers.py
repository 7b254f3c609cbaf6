"""Minibatches made in other processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nnet.data import workers
from nnet.data.errors import TableError
from nnet.data.tables import RandomAccess, read_matrix
from nnet.data.workers import made_ahead
from nnet.data.writers import MatrixWriter
from nnet.errors import NnetError


def squares() -> Callable[[int], torch.Tensor]:
    return lambda n: torch.full((3, 2), float(n * n)).t()


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_results_come_in_order_whatever_makes_them(count: int) -> None:
    items = range(3, 20)
    with made_ahead(squares, items, count) as made:
        found = list(made)
    assert [int(tensor[0, 0]) for tensor in found] == [n * n for n in items]
    assert all(tensor.shape == (2, 3) for tensor in found)
    assert not multiprocessing.active_children()


def test_leaving_early_ends_the_processes_and_what_came_stays() -> None:
    with made_ahead(squares, range(1000), 2) as made:
        found = [next(made) for _ in range(5)]
        assert len(multiprocessing.active_children()) == 2
    assert not multiprocessing.active_children()
    assert [int(tensor[0, 0]) for tensor in found] == [0, 1, 4, 9, 16]


def test_nothing_to_make_needs_no_process() -> None:
    with made_ahead(squares, [], 2) as made:
        assert list(made) == []


@pytest.mark.parametrize("count", [0, 2])
def test_a_mistake_is_told_where_its_item_would_have_come(count: int) -> None:
    def maker() -> Callable[[int], int]:
        def make(n: int) -> int:
            if n == 3:
                raise TableError("feats.ark", "the data ends", utterance="u3", offset=7)
            return n

        return make

    with made_ahead(maker, range(6), count) as made:
        assert [next(made) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(NnetError, match=r"feats\.ark.*the data ends") as caught:
            next(made)
    assert "u3" in str(caught.value)


def test_a_fault_shows_where_it_happened() -> None:
    def maker() -> Callable[[int], float]:
        return lambda n: 1 / n

    with made_ahead(maker, [0], 1) as made, pytest.raises(RuntimeError, match="ZeroDivisionError"):
        next(made)


def test_a_killed_process_is_one_clean_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 0.05)

    def maker() -> Callable[[int], int]:
        def make(n: int) -> int:
            if n == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return n

        return make

    with (
        made_ahead(maker, range(4), 1) as made,
        pytest.raises(NnetError, match="ended with status -9; perhaps there was too little memory"),
    ):
        list(made)


def test_forked_processes_read_tables_at_places_of_their_own(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    matrices = {f"u{n}": random.standard_normal((50, 7)).astype(np.float32) for n in range(200)}
    with MatrixWriter(f"ark:{tmp_path}/a.ark") as writer:
        for name, matrix in matrices.items():
            writer.write(name, matrix)
    table = RandomAccess(f"ark:{tmp_path}/a.ark", read_matrix)
    assert np.array_equal(table["u5"], matrices["u5"])  # opens the file before the fork
    names = list(matrices) * 3
    with made_ahead(lambda: lambda name: torch.from_numpy(table[name].copy()), names, 3) as made:
        for name, found in zip(names, made, strict=True):
            assert np.array_equal(found.numpy(), matrices[name])
