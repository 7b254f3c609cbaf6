"""nnet chain-prepare: Kaldi's graphs from Kaldi's alignments, and its mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnet.commands.main import main
from nnet.data.chain.folder import ChainGraphs
from nnet.modelfile.fst import read_fst_file
from tests.acceptors import difference
from tests.support import GOLDEN

CHAIN = GOLDEN / "training/chain"
ALIGNMENTS = ("--alignments", f"ark:{CHAIN / 'phones_lengths.txt'}")
PHONES = ("--phones", f"ark:{CHAIN / 'phones.txt'}")
TREE = ("--tree", CHAIN / "tree", "--model", CHAIN / "mono.mdl")


def nnet(*words: object) -> int:
    """Runs the command; its exit status."""
    with pytest.raises(SystemExit) as end:
        main(["chain-prepare", *(str(word) for word in words)])
    return int(str(end.value.code))


@pytest.mark.parametrize(
    "words",
    [
        (*ALIGNMENTS, "--ngram-order", "3"),
        (*PHONES, "--num-extra-lm-states", "0", "--topo", CHAIN / "topo"),
        (*TREE, "--phone-lm", CHAIN / "phone_lm.fst"),
    ],
)
def test_kaldis_graphs(words: tuple[object, ...], tmp_path: Path) -> None:
    assert nnet(tmp_path / "graphs", *words) == 0
    graphs = ChainGraphs.read(tmp_path / "graphs")
    assert (tmp_path / "graphs/tree").read_bytes() == (CHAIN / "tree").read_bytes()
    for name, ours in (
        ("phone_lm.fst", graphs.phone_lm),
        ("den.fst", graphs.den),
        ("normalization.fst", graphs.normalization),
    ):
        assert difference(ours, read_fst_file(CHAIN / name)) < 1e-4


def test_what_was_made_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--context", "left-biphone", "--silence-phones", "1", "--ngram-order", "3")
    assert nnet(tmp_path, *PHONES, *words) == 0
    assert capsys.readouterr().err == (
        "nnet chain-prepare: 4 phones, 26 pdfs; phone_lm.fst with 14 states and 37 arcs; den.fst "
        "with 14 states and 50 arcs\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "one of --phones, --alignments and --phone-lm"),
        ((*PHONES, *ALIGNMENTS), "one of --phones, --alignments and --phone-lm"),
        ((*PHONES, "--tree", CHAIN / "tree"), "--tree and --model come together"),
        ((*PHONES, "--ngram-order", "1"), "--ngram-order is 1"),
        (("--phones", ALIGNMENTS[1]), "found ';' in an alignment"),
        (
            (*PHONES, "--context", "left-biphone", "--silence-phones", "9"),
            "--silence-phones has 9, which is no phone",
        ),
        (
            (*PHONES, "--context", "left-biphone", "--silence-phones", "a"),
            "--silence-phones is 'a'",
        ),
    ],
)
def test_mistakes(
    words: tuple[object, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert nnet(tmp_path / "graphs", *words) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "graphs").exists()
