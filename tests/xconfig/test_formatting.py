"""The canonical layout of xconfigs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnet.text.parse import parse_xconfig
from nnet.text.source import TextError
from nnet.xconfig import expand
from nnet.xconfig.formatting import formatted
from nnet.xconfig.texts import config_texts

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "nets").glob("*/net.xconfig"))
OURS = sorted((Path(__file__).parents[2] / "configs").glob("*.xconfig"))


def test_layout() -> None:
    text = (
        "\n\n  # Features.\n"
        "input   dim=40 name=input   #40 mel bins\n\n\n\n"
        "    relu-layer dim=8 max-change=1   input=Append( -1 , 0, ReplaceIndex(i, t, 0) ) name=a\n"
        "#relu-layer name=gone  dim=8\n"
        "output-layer l2-regularize= ng-affine-options='update-period=2' name=output dim=3  \n\n"
    )
    assert formatted(text) == (
        "# Features.\n"
        "input name=input dim=40  #40 mel bins\n"
        "\n"
        "relu-layer name=a input=Append(-1,0,ReplaceIndex(i,t,0)) dim=8 max-change=1\n"
        "#relu-layer name=gone  dim=8\n"
        'output-layer name=output dim=3 ng-affine-options="update-period=2" l2-regularize=\n'
    )


def test_what_is_not_known_is_kept() -> None:
    text = "strange-layer b=1 a=2 name=x input=y\nrelu-layer zoo=1 dim=x name=z\n"
    assert formatted(text) == (
        "strange-layer name=x input=y b=1 a=2\nrelu-layer name=z dim=x zoo=1\n"
    )


def test_nothing_but_blank_lines() -> None:
    assert formatted("\n  \n") == ""


def test_a_line_that_cannot_be_read() -> None:
    with pytest.raises(TextError, match="net:2:1: the line begins with the setting 'name='"):
        formatted("input name=a dim=3\nname=b\n", "net")


@pytest.mark.parametrize(
    "path", [*GOLDEN, *OURS], ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_the_network_and_the_comments_stay(path: Path) -> None:
    text = path.read_text()
    once = formatted(text)
    assert formatted(once) == once
    assert text.count("#") == once.count("#")
    before, after = (config_texts(expand(parse_xconfig(t))) for t in (text, once))
    assert before.keys() == after.keys()
    assert before["final.config"] == after["final.config"]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_our_recipes_are_in_canonical_layout(path: Path) -> None:
    assert formatted(path.read_text()) == path.read_text()


@settings(max_examples=100)
@given(
    st.sampled_from([path.read_text() for path in GOLDEN]),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([" ", "  # x", "\t", "\n", "#", "'"]),
)
def test_formatting_twice_is_formatting_once(text: str, place: float, insert: str) -> None:
    at = int(place * len(text))
    try:
        once = formatted(text[:at] + insert + text[at:])
    except TextError:
        return
    assert formatted(once) == once
