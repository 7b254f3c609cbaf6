"""Sets of times are sets: every operation agrees with the same one on Python sets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nnet.plan.times import At, RoundDown, Shift, Times, compose

ranges = st.builds(Times, st.integers(-20, 20), st.integers(1, 5), st.integers(1, 12))
scattered = st.sets(st.integers(-30, 30), min_size=1, max_size=12).map(
    lambda members: Times.of(np.array(sorted(members)))
)
times = st.one_of(ranges, scattered)
steps = st.one_of(
    st.builds(Shift, st.integers(-5, 5)),
    st.builds(RoundDown, st.integers(1, 4)),
    st.builds(At, st.integers(-3, 3)),
)
maps = st.lists(steps, max_size=3).map(tuple)


def members(t):
    return set(t.array().tolist())


def moved(time, steps):
    for step in steps:
        match step:
            case Shift(by=by):
                time += by
            case RoundDown(modulus=modulus):
                time -= time % modulus
            case At(time=at):
                time = at
    return time


@given(times, times)
def test_set_operations(a, b):
    assert members(a.union(b)) == members(a) | members(b)
    assert members(a.intersection(b)) == members(a) & members(b)
    assert members(a.difference(b)) == members(a) - members(b)
    assert a.contains(b) == (members(a) >= members(b))
    assert (a == b) == (members(a) == members(b))


@given(times, st.integers(1, 4))
def test_residues_partition(a, modulus):
    parts = [members(a.residue(r, modulus)) for r in range(modulus)]
    assert set().union(*parts) == members(a)
    assert sum(map(len, parts)) == len(a)


@given(times, maps)
def test_image_and_selection(wanted, steps):
    image = wanted.image(steps)
    assert members(image) == {moved(t, steps) for t in members(wanted)}
    stored = image.union(Times(-60, 1, 30))
    selection = stored.select(wanted, steps)
    rows = np.arange(selection.count) * selection.step + selection.start
    rows = rows if selection.index is None else selection.index
    assert stored.array()[rows].tolist() == [moved(t, steps) for t in wanted.array().tolist()]


@given(maps, maps, st.integers(-20, 20))
def test_composition(outer, inner, time):
    assert moved(time, compose(outer, inner)) == moved(moved(time, outer), inner)


@given(times)
def test_a_cover_contains_the_set_and_is_regular_or_the_set_itself(a):
    cover = a.covered()
    assert members(cover) >= members(a)
    assert cover.regular or cover is a
    assert len(cover) <= 1.6 * len(a)
