"""The example of a legacy network runs, and every step keeps or improves the result."""

import re
from pathlib import Path

import pytest

from examples.convert_legacy.__main__ import main


def test_the_example_shows_equality_and_improvement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path), "--epochs", "2"]) == 0
    out = capsys.readouterr().out
    shares = [float(share) for share in re.findall(r"([\d.]+)% of frames right", out)]
    differences = [float(number) for number in re.findall(r"difference.*: (\S+)", out)]
    assert shares[1] > shares[0] > 50
    assert differences[0] < 1e-5
    assert differences[1] < 1e-4
