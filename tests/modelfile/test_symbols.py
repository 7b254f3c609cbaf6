"""Symbol tables and lists of labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnet.errors import NnetError
from nnet.modelfile.symbols import read_label_list, read_symbols
from tests.graphs import DIGITS


def test_words_and_their_labels() -> None:
    words = read_symbols(DIGITS / "graph/words.txt")
    assert words.text([5, 7]) == "nine seven"
    assert words.label("nine") == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1\nb\n", r"words.txt:2: expected a symbol and its label, found 'b'"),
        ("a 1\nb x\n", r"words.txt:2: expected a symbol and its label, found 'b x'"),
        ("a 1\nb 1\n", r"words.txt:2: label 1 of 'b' is the label of 'a' too"),
        ("a 1\na 2\n", r"words.txt: the symbol 'a' has two labels"),
        ("", r"words.txt: expected symbols and their labels, found none"),
    ],
)
def test_a_wrong_table_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text(text)
    with pytest.raises(NnetError, match=message):
        read_symbols(path)


def test_a_gap_is_named_when_it_is_met(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("<eps> 0\nb 2\n")
    with pytest.raises(NnetError, match=r"words\.txt: has no symbol for label 1"):
        read_symbols(path)[1]
    with pytest.raises(NnetError, match=r"words\.txt: has no symbol 'bb'"):
        read_symbols(path).label("bb")


def test_lists_of_labels(tmp_path: Path) -> None:
    assert read_label_list(DIGITS / "lang/phones/silence.csl")[0] == 1
    path = tmp_path / "disambig.int"
    path.write_text("11887\n11888 x\n")
    with pytest.raises(NnetError, match=r"disambig\.int:2: expected a label"):
        read_label_list(path)
