"""Tables of compact lattices: the bytes that Kaldi writes, and damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnet.data.errors import TableError
from nnet.data.lattices import LatticeWriter, read_lattice
from nnet.data.tables import read_table
from tests.graphs import DIGITS

BINARY = DIGITS / "supervision/lats.ark"
TEXT = DIGITS / "dev/lattices.txt"


@pytest.mark.parametrize(("path", "form"), [(BINARY, "ark"), (TEXT, "ark,t")])
def test_lattices_that_were_read_get_the_same_bytes(path: Path, form: str, tmp_path: Path) -> None:
    with LatticeWriter(f"{form}:{tmp_path / 'out'}") as writer:
        for name, lattice in read_table(f"ark:{path}", read_lattice):
            writer.write(name, lattice)
    assert (tmp_path / "out").read_bytes() == path.read_bytes()


def test_a_binary_lattice_has_the_arcs_of_its_text(tmp_path: Path) -> None:
    lattices = dict(read_table(f"ark:{TEXT}", read_lattice))
    with LatticeWriter(f"ark:{tmp_path / 'out'}") as writer:
        for name, lattice in lattices.items():
            writer.write(name, lattice)
    for name, found in read_table(f"ark:{tmp_path / 'out'}", read_lattice):
        expected = lattices[name]
        assert found.words.tolist() == expected.words.tolist()
        assert found.graph_costs.tolist() == expected.graph_costs.tolist()
        assert [s.tolist() for s in found.strings] == [s.tolist() for s in expected.strings]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"utt \n0 1 5 1,2\n\n", "found '0 1 5 1,2' in a lattice"),
        (b"utt \n0 -1 5 1,2,3\n\n", "found '0 -1 5 1,2,3' in a lattice"),
        (b"utt \n0 9 5 1,2,3\n\n", "found the state 9"),
        (b"utt " + BINARY.read_bytes()[11:60], "ends inside a block"),
        (b"utt \x0c\x00\x00\x00abcdefgh", "found no FST"),
    ],
)
def test_a_damaged_lattice_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "lats").write_bytes(content)
    with pytest.raises(TableError, match=message):
        list(read_table(f"ark:{tmp_path / 'lats'}", read_lattice))
