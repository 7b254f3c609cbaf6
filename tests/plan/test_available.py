"""Sets of frames as bits agree with sets of integers."""

from hypothesis import given
from hypothesis import strategies as st

from nnet.components.frames import Frames, Window
from nnet.plan.available import frames_of, image, preimage
from nnet.plan.times import At, RoundDown, Shift, Times

WINDOW = Window(-40, 120)
steps = st.one_of(
    st.builds(Shift, st.integers(-5, 5)),
    st.builds(RoundDown, st.integers(1, 5)),
    st.builds(At, st.integers(-5, 5)),
)
maps = st.lists(steps, max_size=3).map(tuple)
sets = st.sets(st.integers(-20, 40), max_size=30)


def frames(members: set[int]) -> Frames:
    return Frames(WINDOW, sum(1 << (t - WINDOW.start) for t in members))


def members(found: Frames) -> set[int]:
    return set(Times.of_frames(found).array().tolist())


def moved(t: int, maps: tuple) -> int:
    for step in maps:
        match step:
            case Shift(by):
                t += by
            case RoundDown(modulus):
                t -= t % modulus
            case At(time):
                t = time
    return t


@given(sets)
def test_conversions(a):
    assert members(frames(a)) == a
    assert frames_of(Times.of_frames(frames(a)), WINDOW) == frames(a)


@given(sets, maps)
def test_image(a, steps):
    assert members(image(frames(a), steps)) == {moved(t, steps) for t in a}


@given(sets, maps)
def test_preimage(a, steps):
    found = members(preimage(frames(a), steps))
    assert {t for t in found if abs(t) < 20} == {t for t in range(-19, 20) if moved(t, steps) in a}


@given(sets, st.lists(st.integers(-6, 6), min_size=1, max_size=12, unique=True))
def test_reached_and_shifted_any(a, offsets):
    assert members(frames(a).reached(offsets)) == {t + o for t in a for o in offsets}
    found = members(frames(a).shifted_any(offsets))
    assert found == {t for t in range(-40, 80) if any(t + o in a for o in offsets)}


@given(sets, st.integers(-6, 6), st.integers(1, 4), st.integers(1, 40))
def test_shifted_by_progressions(a, first, step, count):
    offsets = range(first, first + step * count, step)
    found = members(frames(a).shifted_any(offsets))
    assert found == {t for t in range(-40, 80) if any(t + o in a for o in offsets)}
