"""How the commands set up their process."""

from __future__ import annotations

import os

import pytest

from nnet.process import settle


def test_settings_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    settle()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"


def test_large_tensors_get_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    settle()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"
