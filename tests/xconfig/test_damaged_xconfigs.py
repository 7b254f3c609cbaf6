"""Hypothesis: a damaged xconfig is expanded or refused with a place, never anything else."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from nnet.text.parse import parse_xconfig
from nnet.text.source import TextError
from nnet.xconfig import expand
from nnet.xconfig.texts import config_texts

GOLDEN = Path(__file__).parents[1] / "golden" / "nets"
XCONFIGS = [path.read_text() for path in sorted(GOLDEN.glob("*/net.xconfig"))]

changes = st.tuples(
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 2),
    st.sampled_from(list("()[],@=-.\"'# \n019et")),
)


def damaged(text: str, place: float, cut: int, insert: str) -> str:
    at = int(place * len(text))
    return text[:at] + insert + text[at + cut :]


def refusal(text: str) -> TextError | None:
    try:
        config_texts(expand(parse_xconfig(text)))
    except TextError as error:
        return error
    return None


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(XCONFIGS), st.lists(changes, min_size=1, max_size=3))
def test_damage(text: str, some: list[tuple[float, int, str]]) -> None:
    for place, cut, insert in some:
        text = damaged(text, place, cut, insert)
    error = refusal(text)
    assert error is None or error.span is not None
