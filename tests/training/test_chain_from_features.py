"""nnet train --den-fst from features and alignments, after nnet chain-prepare."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nnet as package
from nnet.commands.main import main
from tests.support import GOLDEN

CHAIN = GOLDEN / "training/chain"
XCONFIG = """
input dim=6 name=ivector
input dim=13 name=input
relu-batchnorm-layer name=tdnn1 dim=24 input=Append(-1,0,1,ReplaceIndex(ivector,t,0))
relu-batchnorm-layer name=tdnn2 dim=24 input=Append(-3,0,3)
output-layer name=output dim=8 include-log-softmax=false
output-layer name=output-xent input=tdnn2 dim=8 learning-rate-factor=5.0
"""
DATA = (
    *("--feats", f"ark:{CHAIN / 'feats.ark'}"),
    *("--targets", f"ark:{CHAIN / 'phones_lengths.txt'}"),
    *("--online-ivectors", f"ark:{CHAIN / 'ivectors.ark'}"),
)
OPTIONS = ("--chunk-width", "30,24", "--num-threads", "1", "--num-epochs", "3")


def nnet(*words: object) -> int:
    """Runs a command; its exit status."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(str(end.value.code))


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "network.xconfig"
    path.write_text(XCONFIG)
    return path


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    assert nnet("chain-prepare", tmp_path / "graphs", "--alignments", DATA[3]) == 0
    return tmp_path / "graphs"


def events(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def test_supervision_is_made_as_training_goes(network: Path, graphs: Path, tmp_path: Path) -> None:
    den = ("--den-fst", graphs / "den.fst", "--apply-deriv-weights")
    assert nnet("train", network, tmp_path / "out", *DATA, *den, *OPTIONS) == 0
    assert set(package.load(str(tmp_path / "out/final.raw")).network.nodes) >= {"output-xent"}
    valid = [e["objective"] for e in events(tmp_path / "out") if e["event"] == "validation"]
    assert len(valid) == 3
    assert valid[0] < valid[-1] < 0


def test_workers_make_the_same_minibatches(network: Path, graphs: Path, tmp_path: Path) -> None:
    den = ("--den-fst", graphs / "den.fst")
    found = []
    for workers in ("0", "1"):
        out = tmp_path / workers
        words = (*DATA, *den, *OPTIONS[:-1], "1", "--num-workers", workers)
        assert nnet("train", network, out, *words) == 0
        found.append([e["objective"] for e in events(out) if e["event"] == "minibatch"])
    assert found[0] == found[1]


def test_a_graph_without_its_folder_is_refused(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "den.fst").write_bytes((CHAIN / "den.fst").read_bytes())
    out = tmp_path / "out"
    assert nnet("train", network, out, *DATA, "--den-fst", alone / "den.fst", *OPTIONS) == 1
    assert "alone has no tree and no 0.trans_mdl" in capsys.readouterr().err


def test_alignments_of_frames_are_refused(
    network: Path, graphs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ali.txt").write_text("utt01 1 1 1 2 2 2\n")
    data = (*DATA[:3], f"ark:{tmp_path / 'ali.txt'}", *DATA[4:])
    words = ("train", network, tmp_path / "out", *data, "--den-fst", graphs / "den.fst")
    assert nnet(*words) == 1
    assert "PHONE FRAMES ; PHONE FRAMES" in capsys.readouterr().err
