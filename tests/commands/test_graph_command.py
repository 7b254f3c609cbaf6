"""nnet graph: Kaldi's graph of digits, other grammars, and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnet.commands.main import main
from nnet.modelfile.graph_files import read_decoding_graph
from nnet.modelfile.symbols import read_symbols
from tests.graphs import DIGITS

SYSTEM = (DIGITS / "lang", DIGITS / "chain/tree", DIGITS / "supervision/chain_trans_mdl")


def nnet(*words: object) -> int:
    """Runs the command; its exit status."""
    with pytest.raises(SystemExit) as end:
        main(["graph", *(str(word) for word in words)])
    return int(str(end.value.code))


def test_the_graph_of_digits_has_the_size_of_kaldis(tmp_path: Path) -> None:
    assert nnet(*SYSTEM, tmp_path / "graph", "--self-loop-scale", "1.0") == 0
    found = read_decoding_graph(tmp_path / "graph/HCLG.fst")
    expected = read_decoding_graph(DIGITS / "graph/HCLG.fst")
    assert (len(found.states), len(found.arcs)) == (len(expected.states), len(expected.arcs))
    for name in ("words.txt", "num_pdfs"):
        assert (tmp_path / "graph" / name).read_text() == (DIGITS / "graph" / name).read_text()
    assert (tmp_path / "graph/phones/word_boundary.int").exists()


def test_a_grammar_in_the_place_of_the_folders_own(tmp_path: Path, capsys) -> None:
    (tmp_path / "rules").write_text("(one | two) [three];")
    assert nnet(*SYSTEM, tmp_path / "graph", "--rules", tmp_path / "rules") == 0
    words = read_symbols(tmp_path / "graph/words.txt")
    found = set(read_decoding_graph(tmp_path / "graph/HCLG.fst").arcs["olabel"].tolist())
    assert found == {0, *(words.label(word) for word in ("one", "two", "three"))}
    assert "nnet graph: HCLG.fst with" in capsys.readouterr().err


def test_a_lexicon_in_the_place_of_the_folders_own(tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_text("won W AH N\none W AH N\n")
    (tmp_path / "phrases").write_text("won\none\n")
    options = ("--lexicon", tmp_path / "lexicon.txt", "--phrases", tmp_path / "phrases")
    assert nnet(*SYSTEM, tmp_path / "graph", *options) == 0
    assert set(read_symbols(tmp_path / "graph/words.txt").labels) >= {"won", "one"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--arpa", "a", "--rules", "b"), "give one of --arpa, --rules and --phrases"),
        (("--rules", "nowhere"), "nowhere: cannot read"),
    ],
)
def test_mistakes_are_one_message(words, message: str, tmp_path: Path, capsys) -> None:
    assert nnet(*SYSTEM, tmp_path / "graph", *words) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "graph").exists()
