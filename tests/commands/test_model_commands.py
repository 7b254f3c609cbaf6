"""`nnet info`, `nnet copy`, `nnet init` and `nnet am-init`."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnet.commands.main import main
from nnet.modelfile.model import read_model

GOLDEN = Path(__file__).parents[1] / "golden"
FRAME_LEVEL = GOLDEN / "training/frame_level"


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


def error_of(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert run(*words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_info_prints_the_text_of_nnet3_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", GOLDEN / "components/noop/init.raw") == 0
    assert capsys.readouterr().out == (GOLDEN / "components/noop/info.txt").read_text()


def test_info_reads_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (GOLDEN / "components/noop/init.raw").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert run("info", "-") == 0
    assert "num-parameters: 0" in capsys.readouterr().out


def test_copy_keeps_the_bytes(tmp_path: Path) -> None:
    for source in (GOLDEN / "nets/tdnnf/trained.raw", GOLDEN / "legacy/mdl/nnet3.mdl"):
        assert run("copy", source, tmp_path / "out") == 0
        assert (tmp_path / "out").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("option", ["--text", "--binary=false"])
def test_copy_as_text(tmp_path: Path, option: str) -> None:
    case = GOLDEN / "components/batchnorm__trained"
    assert run("copy", option, case / "trained.raw", tmp_path / "out.txt") == 0
    assert (tmp_path / "out.txt").read_bytes() == (case / "trained.txt").read_bytes()


def test_copy_of_text_as_text_keeps_the_bytes(tmp_path: Path) -> None:
    source = GOLDEN / "components/batchnorm__trained/trained.txt"
    assert run("copy", "--text", source, tmp_path / "out.txt") == 0
    assert (tmp_path / "out.txt").read_bytes() == source.read_bytes()


def test_copy_writes_standard_output(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    case = GOLDEN / "components/noop"
    assert run("copy", "--text", case / "init.raw", "-") == 0
    assert capsysbinary.readouterr().out == (case / "init.txt").read_bytes()


def test_copy_makes_a_raw_model_of_an_acoustic_one(tmp_path: Path) -> None:
    assert run("copy", "--raw", GOLDEN / "legacy/mdl/nnet3.mdl", tmp_path / "out.raw") == 0
    expected = (GOLDEN / "legacy/mdl/nnet3.raw").read_bytes()
    assert (tmp_path / "out.raw").read_bytes() == expected


@pytest.mark.parametrize(
    ("expected", "option"),
    [
        ("scaled.raw", "--scale=0.5"),
        ("learning_rate.raw", "--learning-rate=0.003"),
        ("prepared.raw", "--prepare-for-test"),
        (
            "edited.raw",
            "--edits=set-learning-rate name=tdnn* learning-rate=0.007; "
            "remove-output-nodes name=none*; rename-node old-name=output new-name=out2",
        ),
    ],
)
def test_copy_changes_models_as_nnet3_copy_does(tmp_path: Path, expected: str, option: str) -> None:
    assert run("copy", option, FRAME_LEVEL / "plain/trained.raw", tmp_path / "out.raw") == 0
    assert (tmp_path / "out.raw").read_bytes() == (FRAME_LEVEL / expected).read_bytes()


def test_copy_takes_edits_from_a_file_and_updates_the_context(tmp_path: Path) -> None:
    (tmp_path / "add.config").write_text(
        "output-node name=output input=Offset(lsm, 3)\ncomponent-node name=lsm component=lsm "
        "input=out\n"
    )
    (tmp_path / "edits").write_text("set-learning-rate learning-rate=0.5\n")
    options = (f"--nnet-config={tmp_path}/add.config", f"--edits-config={tmp_path}/edits")
    assert run("copy", *options, GOLDEN / "legacy/mdl/nnet3.mdl", tmp_path / "out.mdl") == 0
    model = read_model(tmp_path / "out.mdl")
    assert (model.left_context, model.right_context) == (0, 5)
    assert model.network.components["out"].learning_rate == 0.5


def test_copy_collapses_what_it_is_told_to(tmp_path: Path) -> None:
    source = FRAME_LEVEL / "plain/trained.raw"
    options = ("--prepare-for-test", "--collapse=dropout,batchnorm")
    assert run("copy", *options, source, tmp_path / "out.raw") == 0
    components = read_model(tmp_path / "out.raw").network.components
    assert "tdnn1.batchnorm.tdnn2.affine" in components
    assert "tdnn1.batchnorm" not in components


def test_an_edits_file_is_not_split_at_semicolons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "edits").write_text("# first; then\n\nremove-orphan-nodes\nremove-it\n")
    source = FRAME_LEVEL / "plain/trained.raw"
    error = error_of(capsys, "copy", f"--edits-config={tmp_path}/edits", source, tmp_path / "out")
    assert f"{tmp_path}/edits:4:1: unknown edit 'remove-it'" in error


CONFIG = """\
input-node name=input dim=3
component name=a type=AffineComponent input-dim=3 output-dim=4
component-node name=a component=a input=input
output-node name=output input=a
"""


def test_init_is_reproducible(tmp_path: Path) -> None:
    (tmp_path / "net.config").write_text(CONFIG)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert run("init", f"--srand={seed}", tmp_path / "net.config", tmp_path / name) == 0
    first, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == again != other


def test_init_adds_to_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.config").write_text(CONFIG)
    (tmp_path / "more.config").write_text(
        "component name=b type=AffineComponent input-dim=3 output-dim=2\n"
        "component-node name=b component=b input=input\n"
        "output-node name=output input=b\n"
    )
    assert run("init", tmp_path / "net.config", tmp_path / "0.raw") == 0
    assert capsys.readouterr().err == ""
    assert run("init", tmp_path / "0.raw", tmp_path / "more.config", tmp_path / "1.raw") == 0
    assert capsys.readouterr().err == "warning: node 'a' is needed by no output\n"
    before, after = read_model(tmp_path / "0.raw"), read_model(tmp_path / "1.raw")
    assert list(after.network.components) == ["a", "b"]
    np.testing.assert_array_equal(
        before.network.components["a"].parameters()["linear"],
        after.network.components["a"].parameters()["linear"],
    )


def test_init_from_an_xconfig(tmp_path: Path) -> None:
    (tmp_path / "net.xconfig").write_text(
        "input name=input dim=3\n"
        "relu-batchnorm-layer name=tdnn1 dim=4 input=Append(-1,0,2)\n"
        "output-layer name=output dim=2\n"
    )
    assert run("init", "--text", tmp_path / "net.xconfig", tmp_path / "out.raw") == 0
    info = read_model(tmp_path / "out.raw").info()
    assert info.startswith("left-context: 1\nright-context: 2\n")


def test_am_init(tmp_path: Path) -> None:
    folder = GOLDEN / "legacy/mdl"
    for transitions in ("nnet3.mdl", "transition.txt"):
        assert run("am-init", folder / transitions, folder / "nnet3.raw", tmp_path / "out") == 0
        made, expected = read_model(tmp_path / "out"), read_model(folder / "nnet3.mdl")
        expected.priors = None
        assert made.priors is None
        assert (made.left_context, made.right_context) == (1, 2)
        assert made.transition_model is not None
        assert expected.transition_model is not None
        assert made.transition_model.tuples == expected.transition_model.tuples


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = GOLDEN / "legacy/mdl"
    raw, out = folder / "nnet3.raw", tmp_path / "out"
    (tmp_path / "bad.config").write_text(CONFIG.replace("input=a", "input=aa"))
    assert "missing.raw: cannot read: No such file" in error_of(capsys, "info", "missing.raw")
    assert "unknown edit 'x'" in error_of(capsys, "copy", "--edits=x", raw, out)
    assert (
        "wrong value 'bachnorm' for '--collapse', expected some of dropout,batchnorm,"
        in error_of(capsys, "copy", "--prepare-for-test", "--collapse=affine,bachnorm", raw, out)
    )
    assert "wrong value 'maybe'" in error_of(capsys, "copy", "--binary=maybe", raw, out)
    assert "takes [MODEL] NET OUT, found 1" in error_of(capsys, "init", raw)
    assert "bad.config:4:31: node 'output' reads the undefined node 'aa'" in error_of(
        capsys, "init", tmp_path / "bad.config", out
    )
    assert "is a tree" in error_of(capsys, "am-init", folder / "tree", raw, out)
    assert "expected <TransitionModel>" in error_of(capsys, "am-init", raw, raw, out)
    small = GOLDEN / "components/dim_range/init.raw"
    assert "has 9 pdfs" in error_of(capsys, "am-init", folder / "nnet3.mdl", small, out)
    assert not out.exists()


def test_info_imports_no_torch() -> None:
    program = (
        "import sys; from nnet.commands.main import main\n"
        f"try: main(['info', '{GOLDEN}/nets/tdnnf/trained.raw'])\n"
        "except SystemExit as e: assert not e.code\n"
        "assert not {'torch', 'rich', 'kaldiio'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
