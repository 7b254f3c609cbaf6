"""Expanded xconfigs against the files that Kaldi's xconfig_to_configs.py wrote."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from nnet.text.parse import read_xconfig
from nnet.xconfig import Expansion, expand
from nnet.xconfig.texts import config_texts, matrix_text

GOLDEN = Path(__file__).parents[1] / "golden" / "nets"
NETS = sorted(path.name for path in GOLDEN.iterdir())
FILES = [
    "init.config",
    "ref.config",
    "final.config",
    "xconfig.expanded.1",
    "xconfig.expanded.2",
]


def expansion(net: str) -> Expansion:
    return expand(read_xconfig(str(GOLDEN / net / "net.xconfig")))


def without_comments_and_spacing(text: str) -> list[str]:
    """The lines, with one blank between words and none around commas and parentheses."""
    lines = (" ".join(line.partition("#")[0].split()) for line in text.splitlines())
    return [re.sub(r" ?([(),]) ?", r"\1", line) for line in lines if line]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("net", NETS)
def test_config_files(net: str, file: str) -> None:
    texts = config_texts(expansion(net))
    path = GOLDEN / net / "configs" / file
    assert (file in texts) == path.exists()
    if path.exists():
        ours = without_comments_and_spacing(texts[file])
        assert ours == without_comments_and_spacing(path.read_text())


def test_the_inverse_cosine_transform() -> None:
    ((path, matrix),) = expansion("tdnnf").matrices.items()
    assert path == "configs/idct.mat"
    golden = (GOLDEN / "tdnnf" / path).read_text()
    theirs = np.array([[float(x) for x in row.split()] for row in golden[1:-1].split("\n")])
    assert theirs.shape == (20, 21)
    np.testing.assert_allclose(np.array(matrix), theirs, rtol=1e-14)
    assert matrix_text(matrix) == golden


def test_the_second_expanded_xconfig_stands_for_the_same_network(tmp_path: Path) -> None:
    for net in NETS:
        first = expansion(net)
        path = tmp_path / net
        path.write_text(config_texts(first)["xconfig.expanded.2"])
        second = expand(read_xconfig(str(path)))
        assert second.final == first.final
        assert second.ref == first.ref
        assert second.init == first.init
