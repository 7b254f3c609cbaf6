"""nnet score: Kaldi's error rates, reports, and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnet.commands.main import main
from nnet.speech.scoring import aligned_words, counts_of
from tests.graphs import DIGITS

TEXT, WORDS = DIGITS / "dev/text", DIGITS / "dev/words.txt"


def nnet(*words: object) -> int:
    """Runs the command; its exit status."""
    with pytest.raises(SystemExit) as end:
        main(["score", *(str(word) for word in words)])
    return int(str(end.value.code))


def test_error_rates_are_kaldis(capsys) -> None:
    assert nnet(TEXT, WORDS) == 0
    assert capsys.readouterr().out == (DIGITS / "dev/wer.txt").read_text()


def test_error_rates_by_speaker(capsys) -> None:
    assert nnet(TEXT, WORDS, "--utt2spk", DIGITS / "dev/utt2spk") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3:] == ["theo %WER 35.37 [ 58 / 164, 11 ins, 1 del, 46 sub ]"]


def test_the_report_has_the_words_under_each_other(tmp_path: Path) -> None:
    (tmp_path / "ref").write_text("a one two three\n")
    (tmp_path / "hyp").write_text("a one too three four\n")
    assert nnet(tmp_path / "ref", tmp_path / "hyp", "--report", tmp_path / "report") == 0
    assert (tmp_path / "report").read_text().splitlines() == [
        "a ref one two three ***",
        "a hyp one too three four",
        "a op  C   S   C     I",
        "a #csid 2 1 1 0",
    ]


def test_characters(tmp_path: Path, capsys) -> None:
    (tmp_path / "ref").write_text("a one two\n")
    (tmp_path / "hyp").write_text("a on etwo\n")
    assert nnet(tmp_path / "ref", tmp_path / "hyp", "--characters") == 0
    assert capsys.readouterr().out.startswith("%CER 0.00 [ 0 / 6, 0 ins, 0 del, 0 sub ]")


@pytest.mark.parametrize(
    ("mode", "line"),
    [
        ("all", "%WER 50.00 [ 1 / 2, 0 ins, 1 del, 0 sub ]"),
        ("present", "%WER 0.00 [ 0 / 1, 0 ins, 0 del, 0 sub ]"),
    ],
)
def test_missing_hypotheses(mode: str, line: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "ref").write_text("a one\nb two\n")
    (tmp_path / "hyp").write_text("a one\n")
    assert nnet(tmp_path / "ref", tmp_path / "hyp") == 1
    assert "has no utterance 'b' (1 are missing)" in capsys.readouterr().err
    assert nnet(tmp_path / "ref", tmp_path / "hyp", "--mode", mode) == 0
    assert capsys.readouterr().out.splitlines()[0] == line


def test_mistakes_are_one_message(tmp_path: Path, capsys) -> None:
    (tmp_path / "ref").write_text("a one\na two\n")
    assert nnet(tmp_path / "ref", WORDS) == 1
    assert "ref:2: a second line of utterance 'a'" in capsys.readouterr().err


@given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
def test_alignments_hold_all_words_with_the_fewest_errors(
    reference: list[str], hypothesis: list[str]
) -> None:
    pairs = aligned_words(reference, hypothesis)
    assert [r for r, _ in pairs if r is not None] == reference
    assert [h for _, h in pairs if h is not None] == hypothesis
    row = list(range(len(reference) + 1))
    for i, word in enumerate(hypothesis, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(reference, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    assert counts_of(pairs).errors == row[-1]
