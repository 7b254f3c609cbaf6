"""All mistakes of an xconfig at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnet.text.parse import parse_xconfig
from nnet.text.source import TextError
from nnet.xconfig import expand
from nnet.xconfig.checking import mistakes

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "nets").glob("*/net.xconfig"))


def places(text: str, existing: dict[str, int] | None = None) -> list[str]:
    """`line:column: message` of each mistake."""
    found = mistakes(text, "net", existing)
    return [f"{e.span.line}:{e.span.column}: {e.message}" if e.span else e.message for e in found]


def test_mistakes_of_every_kind_in_one_pass() -> None:
    text = (
        "input name=input dim=40\n"
        "relu-layer name=a dim=x foo=1 max-change=y input=Append(absent, input, missing@1)\n"
        "relu-bachnorm-layer name=b dim=4\n"
        "relu-layer name=c dim=4 input=input dim=5\n"
        "relu-layer dim=4\n"
        "relu-layer name=input dim=4\n"
        'output-layer name=output input="input dim=4\n'
    )
    assert places(text) == [
        "2:23: wrong value 'x' for 'dim'",
        "2:25: relu-layer has no option 'foo'",
        "2:42: wrong value 'y' for 'max-change'",
        "2:57: no layer 'absent'",
        "2:72: no layer 'missing'",
        "3:1: unknown layer type 'relu-bachnorm-layer'",
        "4:37: 'dim' is given twice",
        "5:1: this relu-layer has no name",
        "6:17: the name 'input' is taken by the input in line 1",
        "7:32: the quote is never closed",
    ]


def test_what_follows_from_another_mistake_is_not_said() -> None:
    text = (
        "input name=input dim=4.5\n"
        "relu-layer name=a\n"
        "tdnnf-layer name=b bottleneck-dim=2 dim=7 input=Sum(a, input)\n"
        "relu-layer name=c input=b dim=\n"
        "output-layer name=output dim=3\n"
    )
    assert places(text) == [
        "1:22: wrong value '4.5' for 'dim'",
        "4:31: wrong value '' for 'dim'",
    ]


def test_a_reader_of_a_damaged_line_is_checked_as_far_as_it_can_be() -> None:
    text = (
        "input name=input dim=4\n"
        "relu-layer name=a dim=(\n"
        "relu-layer name=b input=Append(a, gone) target-rms=two\n"
        "output-layer name=output dim=3\n"
    )
    assert places(text)[1:] == ["3:35: no layer 'gone'", "3:52: wrong value 'two' for 'target-rms'"]


def test_what_is_wrong_with_the_whole() -> None:
    assert places("# nothing\n") == ["net: no layer in this xconfig"]
    assert places("relu-layer name=a dim=3\noutput-layer name=o dim=2\n") == [
        "1:1: [-1] needs 1 layer above this line, and there is none",
        "1:1: the first layer is a relu-layer",
    ]
    assert places("input name=a dim=3\n") == ["1:1: this xconfig has no output"]


def test_nodes_of_an_existing_model() -> None:
    text = "relu-layer name=a dim=3 input=old\noutput-layer name=o dim=2"
    assert places(text, {"old": 4}) == []
    assert places(text, {"older": 4}) == ["1:31: no layer 'old'"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name)
def test_golden_networks_have_no_mistake(path: Path) -> None:
    assert mistakes(path.read_text(), path.name) == []


@settings(max_examples=100)
@given(
    st.sampled_from([path.read_text() for path in GOLDEN]),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 3),
    st.sampled_from(list("()[],@=-.\"'# \n019et")),
)
def test_the_first_mistake_of_an_expansion_is_among_them(
    text: str, place: float, cut: int, insert: str
) -> None:
    at = int(place * len(text))
    damaged = text[:at] + insert + text[at + cut :]
    found = [str(error) for error in mistakes(damaged, "net")]
    first = first_mistake(damaged)
    assert found == [] if first is None else first in found


def first_mistake(text: str) -> str | None:
    try:
        expand(parse_xconfig(text, "net"))
    except TextError as error:
        return str(error)
    return None
