"""A mistake in an xconfig and what must be said about it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from nnet.text.parse import parse_xconfig
from nnet.text.source import TextError
from nnet.xconfig import expand
from nnet.xconfig.checking import mistakes


@dataclass(frozen=True)
class Mistake:
    """An xconfig, the place of its mistake, the text under the caret, and what must be said."""

    text: str
    line: int
    column: int
    marked: str
    message: str
    more: tuple[str, ...] = ()


def assert_reported(mistake: Mistake) -> None:
    """The message, its place and its help, from `expand` and from `mistakes` alike."""
    with pytest.raises(TextError) as raised:
        expand(parse_xconfig(mistake.text, "net.xconfig"))
    span = raised.value.span
    assert raised.value.message == mistake.message
    assert span is not None
    assert (span.line, span.column) == (mistake.line, mistake.column)
    assert span.text == mistake.marked
    text = str(raised.value)
    assert text.startswith(f"net.xconfig:{mistake.line}:{mistake.column}: {mistake.message}\n")
    for part in mistake.more:
        assert part in text.split("\n", 3)[3]
    assert text in map(str, mistakes(mistake.text, "net.xconfig"))
