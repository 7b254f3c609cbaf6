"""Reading text files."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnet.errors import NnetError
from nnet.text.files import read_text


def test_text_is_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.config"
    path.write_bytes("ä\r\n".encode())
    assert read_text(str(path)) == "ä\r\n"


@pytest.mark.parametrize("name", ["none/a.config", "a\0b", "."])
def test_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(NnetError, match="cannot read"):
        read_text(str(tmp_path / name))
