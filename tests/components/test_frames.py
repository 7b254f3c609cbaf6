"""Sets of frames as bits, against sets of integers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nnet.components.frames import Frames, Window

windows = st.builds(Window, st.integers(-20, 20), st.integers(1, 30))


@st.composite
def frame_sets(draw: st.DrawFn) -> Frames:
    window = draw(windows)
    return Frames(window, draw(st.integers(0, (1 << window.length) - 1)))


def elements(frames: Frames) -> set[int]:
    window = frames.window
    return {t for t in range(window.start - 5, window.start + window.length + 5) if t in frames}


def inside(window: Window) -> range:
    return range(window.start, window.start + window.length)


@given(frame_sets(), st.integers(-40, 40))
def test_shifted(frames: Frames, offset: int) -> None:
    expected = {t for t in inside(frames.window) if t + offset in elements(frames)}
    assert elements(frames.shifted(offset)) == expected


@given(frame_sets(), st.integers(1, 50))
def test_rounded(frames: Frames, modulus: int) -> None:
    expected = {t for t in inside(frames.window) if t - t % modulus in elements(frames)}
    assert elements(frames.rounded(modulus)) == expected


@given(windows, st.integers(1, 40), st.integers(0, 39))
def test_every(window: Window, period: int, remainder: int) -> None:
    remainder %= period
    expected = {t for t in inside(window) if t % period == remainder}
    assert elements(window.every(period, remainder)) == expected


@given(windows, st.integers(-60, 60), st.integers(-60, 60))
def test_between(window: Window, first: int, end: int) -> None:
    assert elements(window.between(first, end)) == set(range(first, end)) & set(inside(window))
