"""LF-MMI from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import kaldiio
import numpy as np
import pytest

from nnet.commands.main import main
from nnet.modelfile.model import read_model

CHAIN = Path(__file__).parents[1] / "golden/training/chain"
EGS = f"ark:{CHAIN}/cegs_unmerged.ark"
DEN_FST = str(CHAIN / "den.fst")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(end.value.code or 0)


def test_the_objectives_are_kaldis(capsys: pytest.CaptureFixture[str]) -> None:
    """Kaldi's are of all but the last 3 examples, which make no minibatch of 6."""
    options = ("--den-fst", DEN_FST, "--l2-regularize", "0.00005")
    assert run("compute-prob", str(CHAIN / "l2/trained.raw"), EGS, *options) == 0
    ours = capsys.readouterr().out.splitlines()
    log = (CHAIN / "l2/train.log").read_text().split("Wrote raw model")[1]
    theirs = sorted(re.findall(r"Overall .*", log))
    for mine, wanted in zip(ours, theirs, strict=True):
        assert re.sub(r"\d\S*\d", "N", mine) == re.sub(r"\d\S*\d", "N", wanted)
        first, second = (float(re.search(r"-\d\S*\d", line)[0]) for line in (mine, wanted))
        assert first == pytest.approx(second, rel=0.02)


def test_outputs_of_kaldis_trained_model(tmp_path: Path) -> None:
    outputs = tmp_path / "out.ark"
    ivectors = ("--online-ivectors", f"ark:{CHAIN}/ivectors.ark", "--online-ivector-period", "10")
    chunks = ("--frames-per-chunk", "30", "--frame-subsampling-factor", "3")
    feats, model = f"ark:{CHAIN}/feats.ark", str(CHAIN / "xent/trained.raw")
    assert run("compute", model, feats, f"ark:{outputs}", *ivectors, *chunks) == 0
    ours = dict(kaldiio.load_ark(str(outputs)))
    theirs = dict(kaldiio.load_ark(str(CHAIN / "xent/output.ark")))
    assert ours.keys() == theirs.keys()
    for key, wanted in theirs.items():
        variation = np.linalg.norm(wanted - wanted.mean(0))
        size = max(variation, 0.05 * np.linalg.norm(wanted))
        assert np.linalg.norm(ours[key] - wanted) / size < 1e-5


def events(folder: Path, kind: str) -> list[dict]:
    lines = map(json.loads, (folder / "train.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == kind]


def test_training_with_frame_shifts(tmp_path: Path) -> None:
    """An epoch takes each example once at each shift."""
    arguments = (
        "--egs", EGS, "--valid-egs", EGS, "--den-fst", DEN_FST, "--egs-minibatch-size", "8,1:8",
        "--frame-subsampling-factor", "3", "--num-epochs", "2", "--max-models-combine", "2",
    )  # fmt: skip
    out = tmp_path / "exp"
    assert run("train", str(CHAIN / "init.raw"), str(out), *arguments) == 0
    minibatches = events(out, "minibatch")
    assert len(minibatches) == 2 * 3 * 11
    assert sum(event["outputs"]["output"]["weight"] for event in minibatches) == 2 * 3 * 810
    assert events(out, "validation")[-1]["objective"] > -0.6
    log = (out / "train.log").read_text()
    assert re.search(r"objective function for 'output-xent' is -\d\S+ over 4860 frames", log)
    assert (out / "final.raw").exists()


def test_combination_by_lfmmi(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The trained model alone is better than its average with the initial one."""
    models = (str(CHAIN / "xent/trained.raw"), str(CHAIN / "init.raw"))
    out = tmp_path / "final.raw"
    assert run("combine", *models, EGS, str(out), "--den-fst", DEN_FST) == 0
    log = capsys.readouterr().err
    assert "Combining 1 nnets, objective function changed from -0.39" in log
    found = re.findall(r"Overall log-probability for '(\S+)' is (-0\.3\d+|-1\.9\d+) per frame", log)
    assert [name for name, _ in found] == ["output", "output-xent"]
    trained, combined = (read_model(path).network for path in (models[0], out))
    for name, component in trained.components.items():
        for key, values in component.parameters().items():
            assert (combined.components[name].parameters()[key] == values).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--den-fst", "none.fst"), "cannot read 'none.fst': No such file"),
        (
            ("--den-fst", DEN_FST, "--leaky-hmm-coefficient", "0"),
            "--leaky-hmm-coefficient is 0.0, expected above 0 and below 1",
        ),
        (
            ("--den-fst", DEN_FST, "--xent-regularize", "-1"),
            "--xent-regularize is -1.0, expected 0 or more",
        ),
    ],
)
def test_mistakes(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(CHAIN / "init.raw")
    assert run("train", model, str(tmp_path / "exp"), "--egs", EGS, *arguments) == 1
    assert message in capsys.readouterr().err


def test_examples_of_the_other_kind(capsys: pytest.CaptureFixture[str]) -> None:
    frames = CHAIN.parent / "frame_level"
    assert run("compute-prob", str(CHAIN / "init.raw"), EGS) == 1
    assert "found one for LF-MMI, which needs --den-fst" in capsys.readouterr().err
    egs = f"ark:{frames}/egs.ark"
    assert run("compute-prob", str(CHAIN / "init.raw"), egs, "--den-fst", DEN_FST) == 1
    assert "found one with targets of frames, which needs no --den-fst" in capsys.readouterr().err


def test_a_graph_for_other_pdfs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "net.xconfig"
    config.write_text("input dim=13 name=input\noutput-layer name=output dim=5 input=input\n")
    assert run("init", str(config), str(tmp_path / "0.raw")) == 0
    capsys.readouterr()
    assert run("compute-prob", str(tmp_path / "0.raw"), EGS, "--den-fst", DEN_FST) == 1
    assert "the labels of the denominator graph are 1 to 8; expected" in capsys.readouterr().err
