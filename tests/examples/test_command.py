"""The example as a person runs it: wrong input gives one line and exit status 1."""

from pathlib import Path

import pytest

from examples.speech.__main__ import main, parse
from examples.speech.networks import with_output_dim


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recordings", "nowhere"], "nowhere: no such folder; expected recordings named"),
        (["--sentences", "0"], "argument --sentences: '0' is not a whole number from 1 on"),
        (["--epochs", "many"], "argument --epochs: 'many' is not a whole number from 1 on"),
        (["--seed", "-1"], "argument --seed: '-1' is not a whole number from 0 on"),
        (["--held-out", "anna"], "--held-out names a speaker of --recordings, which is not"),
        (["--minutes", "3"], "unrecognized arguments: --minutes 3; see python -m examples.speech"),
    ],
)
def test_wrong_input_gives_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*words, "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"speech: {message}")
    assert error.count("\n") == 1


def test_a_file_in_the_place_of_the_folder_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("")
    assert main(["--out", str(tmp_path / "out")]) == 1
    assert "out: File exists; choose another folder with --out" in capsys.readouterr().err


def test_defaults_make_speech_on_the_spot() -> None:
    options = parse([])
    assert options.recordings is None
    assert options.out == Path("exp/speech")


def test_the_output_layer_gets_the_width_of_the_task() -> None:
    text = "input name=input dim=40\noutput-layer name=output input=input dim=46 max-change=1.5\n"
    assert "input dim=40\noutput-layer name=output input=input dim=7 max" in with_output_dim(
        text, 7
    )
