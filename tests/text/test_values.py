"""From the text of a value to a value."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nnet.text import values
from nnet.text.parse import parse_config
from nnet.text.source import TextError
from nnet.text.values import BadValue


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (values.integer, "-12", -12),
        (values.integer, "+3", 3),
        (values.integer, " 007 ", 7),
        (values.real, "1e-3", 0.001),
        (values.real, ".5", 0.5),
        (values.real, "-2.", -2.0),
        (values.boolean, "true", True),
        (values.boolean, "F", False),
        (values.boolean, "truthy", True),
        (values.true_or_false, "True", True),
        (values.true_or_false, "false", False),
        (values.string, "a b", "a b"),
        (values.name, "tdnn1.affine-2_x", "tdnn1.affine-2_x"),
        (values.integers, "-3,0,3", (-3, 0, 3)),
        (values.integers, "1:2, 3", (1, 2, 3)),
        (values.choice("linear", "quadratic"), "linear", "linear"),
    ],
)
def test_value(convert: Callable[[str], object], text: str, value: object) -> None:
    assert convert(text) == value


@pytest.mark.parametrize(
    ("convert", "text", "expected"),
    [
        (values.integer, "1.0", "an integer"),
        (values.integer, "", "an integer"),
        (values.integer, "1_0", "an integer"),
        (values.integer, "2147483648", "an integer of at most 32 bits"),
        (values.integer, "9" * 5000, "an integer"),
        (values.real, "nan", "a number"),
        (values.real, "inf", "a number"),
        (values.real, "1_0", "a number"),
        (values.real, "1e400", "a finite number"),
        (values.boolean, "1", "true or false"),
        (values.true_or_false, "ture", "true or false"),
        (values.name, "1a", "starting with a letter or '_'"),
        (values.name, "a b", "starting with a letter or '_'"),
        (values.integers, "1,,2", "integers separated by commas"),
        (values.choice("linear", "quadratic"), "cubic", "linear or quadratic"),
    ],
)
def test_wrong_value(convert: Callable[[str], object], text: str, expected: str) -> None:
    with pytest.raises(BadValue, match=expected):
        convert(text)


def test_a_wrong_value_is_shown_in_its_line() -> None:
    setting = parse_config("a\ninput-node dim='4o'").lines[1].settings[0]
    with pytest.raises(TextError) as raised:
        values.convert(setting, values.integer)
    assert str(raised.value) == (
        "<string>:2:17: wrong value '4o' for 'dim'\n"
        "2 | input-node dim='4o'\n"
        "  |                 ^^\n"
        "expected: an integer"
    )


def test_a_forgotten_equals_sign_is_guessed() -> None:
    setting = parse_config("component input-dim=40 output-dim 30").lines[0].settings[0]
    with pytest.raises(TextError, match=r"is a '=' missing after 'output-dim'\?"):
        values.convert(setting, values.integer)
