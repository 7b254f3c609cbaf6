"""Averaging, combining, measuring and comparing models: Kaldi's outputs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from nnet.commands.main import main
from nnet.modelfile.model import read_model
from nnet.modelfile.writing import BinaryWriter

GOLDEN = Path(__file__).parents[1] / "golden"
FRAME_LEVEL = GOLDEN / "training/frame_level"
EGS = f"ark:{FRAME_LEVEL}/egs.ark"
PLAIN = str(FRAME_LEVEL / "plain/trained.raw")
MOMENTUM = str(FRAME_LEVEL / "momentum/trained.raw")
INITIAL = str(FRAME_LEVEL / "plain/init.raw")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(end.value.code or 0)


def logged(path: Path, beginning: str) -> list[str]:
    """The messages of a Kaldi log from the first that begins with a text."""
    messages = re.findall(r"^LOG \(.*?\d\) (.*)", path.read_text(), re.M)
    messages = [text for text in messages if "seconds taken" not in text]
    first = next(i for i, text in enumerate(messages) if text.startswith(beginning))
    return messages[first:]


@pytest.mark.parametrize(
    ("weights", "golden"), [((), "average.raw"), (("--weights", "1:3"), "average_weighted.raw")]
)
def test_an_average_is_kaldis_byte_for_byte(
    weights: tuple[str, ...], golden: str, tmp_path: Path
) -> None:
    assert run("average", PLAIN, MOMENTUM, str(tmp_path / "out.raw"), *weights) == 0
    assert (tmp_path / "out.raw").read_bytes() == (FRAME_LEVEL / golden).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((PLAIN,), "one file is given; expected: models to average"),
        ((PLAIN, MOMENTUM, "out.raw", "--weights", "1:x"), "--weights is '1:x'; expected: numbers"),
        ((PLAIN, MOMENTUM, "out.raw", "--weights", "1"), "expected: 2 numbers, one for each model"),
        (
            (PLAIN, str(GOLDEN / "components/affine__trained/init.raw"), "out.raw"),
            "the networks have different components: tdnn1.affine TdnnComponent",
        ),
    ],
)
def test_models_that_cannot_be_averaged(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("average", *arguments) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("setting", ["plain", "l2", "backstitch"])
def test_the_objective_and_accuracy_are_kaldis(
    setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compute-prob", str(FRAME_LEVEL / setting / "trained.raw"), EGS) == 0
    theirs = re.findall(
        r"Overall (?:log-l|acc).*", (FRAME_LEVEL / setting / "train.log").read_text()
    )
    assert capsys.readouterr().out.splitlines() == theirs


def test_the_objective_of_a_quadratic_output(capsys: pytest.CaptureFixture[str]) -> None:
    folder = GOLDEN / "components/tdnn__trained"
    assert run("compute-prob", str(folder / "trained.raw"), f"ark:{folder}/egs.ark") == 0
    theirs = re.findall(r"Overall .*", (folder / "prob.log").read_text())
    assert capsys.readouterr().out.splitlines() == theirs


def test_the_combination_is_kaldis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = (INITIAL, PLAIN, MOMENTUM)
    options = ("--max-objective-evaluations", "5")
    assert run("combine", *models, EGS, str(tmp_path / "out.raw"), *options) == 0
    wanted = logged(FRAME_LEVEL / "combine.log", "Read 26")
    wanted = [text for text in wanted if "stats" not in text and "Finished" not in text]
    assert capsys.readouterr().err.splitlines() == wanted
    ours, theirs = (
        read_model(path).network.components
        for path in (tmp_path / "out.raw", FRAME_LEVEL / "combined.raw")
    )
    for name, component in theirs.items():
        for key, array in component.parameters().items():
            np.testing.assert_allclose(getattr(ours[name], key), array, rtol=1e-6, atol=1e-8)
    batchnorm = theirs["tdnn1.batchnorm"]
    assert ours["tdnn1.batchnorm"].count == batchnorm.count
    np.testing.assert_allclose(ours["tdnn1.batchnorm"].stats_mean, batchnorm.stats_mean, atol=1e-5)
    np.testing.assert_allclose(ours["tdnn1.batchnorm"].stats_var, batchnorm.stats_var, atol=1e-5)


def test_the_progress_report_is_kaldis(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show-progress", INITIAL, PLAIN, EGS) == 0
    ours = capsys.readouterr().out.splitlines()
    theirs = logged(FRAME_LEVEL / "show_progress.txt", "Overall")
    assert len(ours) == len(theirs)
    for mine, kaldis in zip(ours, theirs, strict=True):
        numbers = [
            re.findall(r"(?<=[: ])(?:[\d.e+-]+\d|inf)(?=[ .,]|$)", text) for text in (mine, kaldis)
        ]
        assert re.sub(r"[\d.]+", "", mine) == re.sub(r"[\d.]+", "", kaldis)
        np.testing.assert_allclose(*(np.array(n, float) for n in numbers), rtol=1e-5)


def vector_file(path: Path, values: np.ndarray) -> str:
    writer = BinaryWriter()
    writer.vector(values.astype(np.float32))
    path.write_bytes(bytes(writer))
    return str(path)


@pytest.mark.parametrize("kind", ["", "_chain"])
def test_priors_are_kaldis_byte_for_byte(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, fresh, out = GOLDEN / "legacy/mdl", str(tmp_path / "new.mdl"), tmp_path / "out.mdl"
    assert run("am-init", f"{folder}/mono{kind}.mdl", f"{folder}/nnet3{kind}.raw", fresh) == 0
    assert run("adjust-priors", fresh, f"{folder}/priors{kind}.vec", str(out)) == 0
    assert out.read_bytes() == (folder / f"nnet3{kind}.mdl").read_bytes()
    assert "Model did not previously have priors attached." in capsys.readouterr().err


def test_a_change_of_priors_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = GOLDEN / "legacy/mdl/nnet3.mdl"
    old = read_model(source).priors
    counts = old + np.eye(1, old.size)[0] * 0.5
    out = str(tmp_path / "out.mdl")
    assert run("adjust-priors", str(source), vector_file(tmp_path / "c", counts), out) == 0
    error = capsys.readouterr().err
    assert "largest absolute difference was for pdf 0" in error
    assert "Adjusting priors: K-L divergence from old to new is 0." in error


def test_priors_of_the_wrong_number_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = vector_file(tmp_path / "c", np.ones(2))
    mdl = str(GOLDEN / "legacy/mdl/nnet3.mdl")
    assert run("adjust-priors", mdl, counts, str(tmp_path / "out.mdl")) == 1
    assert "2 numbers with the sum 2; expected:" in capsys.readouterr().err
    assert run("adjust-priors", PLAIN, counts, "out.mdl") == 1
    assert "has no transition model" in capsys.readouterr().err
