"""Networks from text: what `nnet xconfig` takes, everything takes, and reads once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import nnet
from nnet.commands.main import main
from nnet.modelfile import networks
from nnet.modelfile.networks import parse_network
from nnet.text.syntax import File

EMPTY_VALUES = {
    "required-time-offsets": (
        "conv-relu-batchnorm-layer name=cnn1 height-in=8 height-out=8 time-offsets=-1,0,1 "
        "required-time-offsets= height-offsets=-1,0,1 num-filters-out=4"
    ),
    "ng-affine-options": "relu-layer name=a dim=6 ng-affine-options=",
}


def xconfig(layer: str) -> str:
    return f"input dim=8 name=input\n{layer}\noutput-layer name=output dim=5\n"


@pytest.mark.parametrize("option", sorted(EMPTY_VALUES))
def test_an_empty_value_of_an_xconfig_is_taken_everywhere(option: str, tmp_path: Path) -> None:
    text = xconfig(EMPTY_VALUES[option])
    assert nnet.build(text).nodes == nnet.build(text.replace(f"{option}= ", "")).nodes
    file = tmp_path / "net.xconfig"
    file.write_text(text)
    for words in (
        ["init", str(file), str(tmp_path / "a.raw")],
        ["xconfig", str(file), "-o", str(tmp_path / "configs")],
        ["init", str(tmp_path / "configs/final.config"), str(tmp_path / "b.raw")],
    ):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert not end.value.code
    assert (tmp_path / "a.raw").read_bytes() == (tmp_path / "b.raw").read_bytes()


def test_a_text_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(name: str) -> Callable[..., File]:
        parse = getattr(networks, name)

        def parse_counted(*words: str) -> File:
            calls.append(name)
            return parse(*words)

        return parse_counted

    for name in ("parse_config", "parse_xconfig"):
        monkeypatch.setattr(networks, name, counted(name))
    parsed = parse_network(xconfig("relu-layer name=a dim=6"), "net")
    assert parsed.fixed_affine_layer() is None
    parsed.network(np.random.default_rng(0))
    parse_network("input-node name=input dim=3\noutput-node name=output input=input\n", "net")
    assert calls == ["parse_xconfig", "parse_config"]
