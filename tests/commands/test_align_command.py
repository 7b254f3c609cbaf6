"""nnet align: Kaldi's alignment of digits, in all its forms, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nnet.commands.main import main
from tests.graphs import DIGITS

FIRST_TEN = [f"theo-{number:03}" for number in range(10)]
OUTPUTS = f"ark:{DIGITS}/dev/output.ark"
SHIFT = ("--frame-shift", "0.03", "--beam", "20")
SAME = """input-node name=input dim=56
component name=same type=NoOpComponent dim=56
component-node name=same component=same input=input
output-node name=output input=same
"""


def nnet(*words: object) -> int:
    """Runs a command; its exit status."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(str(end.value.code))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The acoustic model of digits with a network that gives what it gets."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "same.config").write_text(SAME)
    assert nnet("init", folder / "same.config", folder / "same.raw") == 0
    transitions = DIGITS / "supervision/chain_trans_mdl"
    assert nnet("am-init", transitions, folder / "same.raw", folder / "final.mdl") == 0
    (folder / "tree").write_bytes((DIGITS / "chain/tree").read_bytes())
    (folder / "phones.txt").write_bytes((DIGITS / "lang/phones.txt").read_bytes())
    return folder / "final.mdl"


def test_transition_ids_are_kaldis(model: Path, tmp_path: Path) -> None:
    from nnet.data.phone_alignments import read_integers
    from nnet.data.tables import read_table

    out = f"ark:{tmp_path}/ali.ark"
    assert nnet("align", model, DIGITS / "lang", OUTPUTS, DIGITS / "dev/text", out, *SHIFT) == 0
    expected = dict(read_table(f"ark:{DIGITS}/dev/align.ark", read_integers))
    found = dict(read_table(out, read_integers))
    assert list(found) == FIRST_TEN
    for name, transitions in found.items():
        assert transitions.tolist() == expected[name].tolist()


def test_times_as_ctm_textgrid_and_json(model: Path, tmp_path: Path) -> None:
    files = (
        "--ctm",
        tmp_path / "a.ctm",
        "--textgrid",
        tmp_path / "grids",
        "--json",
        tmp_path / "j",
    )
    assert nnet("align", model, DIGITS / "lang", OUTPUTS, DIGITS / "dev/text", *files, *SHIFT) == 0
    lines = (tmp_path / "a.ctm").read_text().splitlines()
    assert lines[:2] == ["theo-000 1 0.24 0.36 nine", "theo-000 1 0.63 0.39 seven"]
    grid = (tmp_path / "grids/theo-000.TextGrid").read_text()
    assert '            xmin = 0.240\n            xmax = 0.600\n            text = "nine"' in grid
    first = json.loads((tmp_path / "j").read_text())[0]
    assert first["words"][0] == {"word": "nine", "start": 0.24, "end": 0.6}
    phones = (DIGITS / "dev/align_phones.txt").read_text().splitlines()[0].split(" ", 1)[1]
    lengths = [int(pair.split()[1]) for pair in phones.split(" ; ")]
    found = [round((p["end"] - p["start"]) / 0.03) for p in first["phones"]]
    assert found == lengths


def test_a_lexicon_in_the_place_of_a_lang_folder(model: Path, tmp_path: Path) -> None:
    lexicon = DIGITS / "lang/lexicon.txt"
    ctm = ("--ctm", tmp_path / "a.ctm")
    assert nnet("align", model, lexicon, OUTPUTS, DIGITS / "dev/text", *ctm, *SHIFT) == 0
    assert "theo-000 1 0.24 0.36 nine" in (tmp_path / "a.ctm").read_text()


def test_long_recordings(model: Path, tmp_path: Path) -> None:
    ctm = ("--ctm", tmp_path / "a.ctm", "--long")
    assert nnet("align", model, DIGITS / "lang", OUTPUTS, DIGITS / "dev/text", *ctm, *SHIFT) == 0
    lines = (tmp_path / "a.ctm").read_text().splitlines()
    assert lines[:2] == ["theo-000 1 0.24 0.36 nine", "theo-000 1 0.63 0.39 seven"]


def test_utterances_that_do_not_fit_are_named_and_left_out(
    model: Path, tmp_path: Path, capsys
) -> None:
    texts = (DIGITS / "dev/text").read_text().splitlines()
    texts[0] = "theo-000 " + "nine " * 30
    texts[1] = "theo-001 ninety"
    (tmp_path / "text").write_text("\n".join([*texts[:2], *texts[3:]]))
    ctm = ("--ctm", tmp_path / "a.ctm")
    assert nnet("align", model, DIGITS / "lang", OUTPUTS, tmp_path / "text", *ctm, *SHIFT) == 0
    errors = capsys.readouterr().err
    assert "'theo-000' left out: the text does not fit the 41 frames of the utterance" in errors
    assert "'theo-002' left out" in errors
    assert "has no text of it" in errors
    assert "theo-003" in (tmp_path / "a.ctm").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out": ()}, "expected: OUT, --ctm, --textgrid or --json"),
        ({"lang": "nowhere"}, "nowhere: expected a lang folder with L_disambig.fst"),
        ({"text": "nowhere"}, "nowhere: cannot read"),
    ],
)
def test_mistakes_are_one_message(
    change, message: str, model: Path, tmp_path: Path, capsys
) -> None:
    lang, text = change.get("lang", DIGITS / "lang"), change.get("text", DIGITS / "dev/text")
    out = change.get("out", (f"ark:{tmp_path}/ali.ark",))
    assert nnet("align", model, lang, OUTPUTS, text, *out) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
