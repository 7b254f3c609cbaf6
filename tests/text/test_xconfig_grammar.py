"""xconfig files: what differs from config files."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnet.text.parse import parse_xconfig, read_xconfig
from nnet.text.source import TextError
from nnet.text.write import write_file

GOLDEN = Path(__file__).parents[1] / "golden" / "nets"


def test_an_unquoted_value_may_be_empty() -> None:
    (line,) = parse_xconfig("relu-layer name=a l2-regularize= dim=3 max-change=").lines
    assert [(s.key, s.value) for s in line.settings] == [
        ("name", "a"),
        ("l2-regularize", ""),
        ("dim", "3"),
        ("max-change", ""),
    ]


def test_any_word_can_be_a_layer_type() -> None:
    assert parse_xconfig("res2-block name=a").lines[0].word == "res2-block"


def test_short_forms_need_no_quotes() -> None:
    (line,) = parse_xconfig("x name=a input=Append([-1]@-3, -1,0, [-2].c) dim=3").lines
    assert line.settings[1].value == "Append([-1]@-3, -1,0, [-2].c)"


def test_a_key_occurs_once() -> None:
    with pytest.raises(TextError, match="1:20: 'dim' is given twice"):
        parse_xconfig("input dim=3 name=a dim=4")


def test_an_equals_sign_in_a_value_needs_quotes() -> None:
    with pytest.raises(TextError, match="a second '=' in one value"):
        parse_xconfig("relu-layer ng-affine-options=update-period=2")


@pytest.mark.parametrize("file", ["net.xconfig", "configs/xconfig.expanded.2"])
@pytest.mark.parametrize("net", sorted(path.name for path in GOLDEN.iterdir()))
def test_golden_xconfigs_are_read_and_written(net: str, file: str) -> None:
    parsed = read_xconfig(str(GOLDEN / net / file))
    assert parse_xconfig(write_file(parsed)) == parsed
    assert parse_xconfig(write_file(parsed, empty="")) == parsed
