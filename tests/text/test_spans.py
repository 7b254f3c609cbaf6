"""Places in a text, as errors show them."""

from __future__ import annotations

import pytest

from nnet.text.source import Source, Span, TextError


def span(text: str, part: str) -> Span:
    start = text.index(part)
    return Span(Source("net.config", text), start, start + len(part))


def test_line_and_column_count_from_one() -> None:
    place = span("ab\ncd ef\n", "ef")
    assert (place.line, place.column, place.place) == (2, 4, "net.config:2:4")


def test_the_caret_stands_under_the_part() -> None:
    assert span("ab\ncd ef\n", "ef").excerpt() == "2 | cd ef\n  |    ^^"


def test_an_empty_part_has_one_caret() -> None:
    place = Span(Source("x", "ab"), 2, 2)
    assert place.excerpt() == "1 | ab\n  |   ^"


def test_a_part_of_several_lines_is_marked_in_its_first() -> None:
    assert span("ab cd\nef", "cd\nef").excerpt() == "1 | ab cd\n  |    ^^"


def test_tabs_keep_the_caret_in_its_place() -> None:
    assert span("\tab\tcd", "cd").excerpt() == "1 | \tab\tcd\n  | \t  \t^^"


def test_a_carriage_return_is_not_shown() -> None:
    assert span("ab cd\r\n", "cd").excerpt() == "1 | ab cd\n  |    ^^"


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert span("a\x1b[31m b", "b").excerpt() == "1 | a\ufffd[31m b\n  |        ^"


@pytest.mark.parametrize("position", [0, 100, 5000, 9999])
def test_only_the_surroundings_of_a_part_of_a_long_line_are_shown(position: int) -> None:
    text = "".join(chr(ord("a") + i % 26) for i in range(10_000))
    line, caret = Span(Source("x", text), position, position + 1).excerpt().split("\n")
    assert len(line) < 170
    assert line[caret.index("^")] == text[position]


def test_an_error_without_a_place_has_only_its_message() -> None:
    error = TextError(None, "no layer", expected="a layer", name="inptu", names=["input"])
    assert str(error) == "no layer\nexpected: a layer\ndid you mean 'input'?"
