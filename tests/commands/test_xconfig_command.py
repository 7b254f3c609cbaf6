"""`nnet xconfig`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer import Exit

from nnet.commands.xconfig import xconfig
from nnet.errors import NnetError

GOLDEN = Path(__file__).parents[1] / "golden" / "nets"
NETS = sorted(path.name for path in GOLDEN.iterdir())


@pytest.mark.parametrize("net", NETS)
def test_files(net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    xconfig(str(GOLDEN / net / "net.xconfig"), "configs")
    golden = GOLDEN / net / "configs"
    written = {path.name for path in Path("configs").iterdir()}
    assert written == {path.name for path in golden.iterdir()} - {"lda.mat"}
    assert Path("configs/vars").read_text() == (golden / "vars").read_text()


def test_nothing_is_written_after_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "net.xconfig"
    path.write_text("input name=input dim=10\nrelu-layer name=a dim=3\n")
    with pytest.raises(NnetError, match="this xconfig has no output"):
        xconfig(str(path), str(tmp_path / "configs"))
    assert not (tmp_path / "configs").exists()


def test_an_old_init_config_goes(tmp_path: Path) -> None:
    old = tmp_path / "init.config"
    old.write_text("old")
    xconfig(str(GOLDEN / "trivial" / "net.xconfig"), str(tmp_path))
    assert not old.exists()


def test_new_layers_on_an_existing_model(tmp_path: Path) -> None:
    path = tmp_path / "net.xconfig"
    path.write_text(
        "relu-layer name=new dim=6 input=Append(dec1.batchnorm@-2, dec1.batchnorm@3)\n"
        "output-layer name=output dim=4\n"
    )
    model = GOLDEN / "denoising_autoencoder" / "init.raw"
    xconfig(str(path), str(tmp_path), existing_model=str(model))
    assert (tmp_path / "vars").read_text() == "model_left_context=5\nmodel_right_context=6\n"
    assert "input-dim=64 output-dim=6" in (tmp_path / "final.config").read_text()


def test_edits_give_the_context_of_another_output(tmp_path: Path) -> None:
    path = tmp_path / "net.xconfig"
    path.write_text(
        "input name=input dim=10\nrelu-layer name=a input=Append(-2,1)\noutput name=output-0\n"
    )
    with pytest.raises(NnetError, match="output-node 'output'"):
        xconfig(str(path), str(tmp_path))
    edits = "rename-node old-name=output-0 new-name=output"
    xconfig(str(path), str(tmp_path), nnet_edits=edits)
    assert (tmp_path / "vars").read_text() == "model_left_context=2\nmodel_right_context=1\n"
    assert "output-node name=output-0" in (tmp_path / "final.config").read_text()


def test_a_transform_that_needs_a_delay(tmp_path: Path) -> None:
    path = tmp_path / "net.xconfig"
    text = (
        "input name=input dim=10\n"
        "fixed-affine-layer name=lda affine-transform-file=lda.mat input=Append(-5,0) {}\n"
        "output-layer name=output dim=4 output-delay=3\n"
    )
    path.write_text(text.format(""))
    with pytest.raises(NnetError, match="give the fixed-affine-layer delay=N"):
        xconfig(str(path), str(tmp_path))
    path.write_text(text.format("delay=3"))
    xconfig(str(path), str(tmp_path))
    assert (tmp_path / "vars").read_text() == "model_left_context=2\nmodel_right_context=3\n"


def test_the_command_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from nnet.commands.main import main\n"
        "try: main(['xconfig', sys.argv[1], '-o', sys.argv[2]])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    net = str(GOLDEN / "tdnn_renorm" / "net.xconfig")
    subprocess.run([sys.executable, "-c", code, net, str(tmp_path / "configs")], check=True)
    assert (tmp_path / "configs" / "final.config").exists()


def test_a_mistake_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "net.xconfig"
    path.write_text("input name=input dim=x\n")
    run = subprocess.run(
        [sys.executable, "-m", "nnet.commands.main", "xconfig", str(path), "-o", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr == (
        f"nnet: {path}:1:22: wrong value 'x' for 'dim'\n"
        "1 | input name=input dim=x\n"
        "  |                      ^\n"
        "expected: an integer\n"
        "dim: number of columns of the features (required)\n"
    )


def test_check_prints_all_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.xconfig"
    path.write_text("input name=input dim=x\nrelu-layer name=a foo=3\noutput-layer name=output\n")
    with pytest.raises(Exit) as ended:
        xconfig(str(path), check=True)
    assert ended.value.exit_code == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(str(tmp_path))] == [
        f"{path}:1:22: wrong value 'x' for 'dim'",
        f"{path}:2:19: relu-layer has no option 'foo'",
    ]


def test_check_of_layers_on_an_existing_model(tmp_path: Path) -> None:
    path = tmp_path / "net.xconfig"
    path.write_text("relu-layer name=new input=dec1.batchnorm\noutput-layer name=output dim=4\n")
    model = GOLDEN / "denoising_autoencoder" / "init.raw"
    xconfig(str(path), existing_model=str(model), check=True)
    with pytest.raises(Exit):
        xconfig(str(path), check=True)


def test_check_finds_what_only_the_components_refuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.xconfig"
    path.write_text(
        "input name=input dim=4\n"
        "relu-layer name=a ng-affine-options='alpah=3'\n"
        "output name=output\n"
    )
    with pytest.raises(Exit):
        xconfig(str(path), check=True)
    assert f"{path}:2:38: " in capsys.readouterr().out


def test_format_prints_the_canonical_layout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.xconfig"
    path.write_text("# net\n  input dim=4   name=input\n")
    xconfig(str(path), format=True)
    assert capsys.readouterr().out == "# net\ninput name=input dim=4\n"


def test_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    xconfig(list_types=True)
    assert "  fast-lstmp-layer " in capsys.readouterr().out
    xconfig(describe="tdnnf-layer")
    assert capsys.readouterr().out.startswith("tdnnf-layer\n\nA factorized time-delay layer")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(NnetError, match="no xconfig is given"):
        xconfig()
    with pytest.raises(NnetError, match="no directory is given"):
        xconfig(str(tmp_path / "net.xconfig"))
