"""The program itself: subcommands, exit status, one error and no traceback, and a quick start."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nnet.commands.main import commands, main
from tests.support import GOLDEN

TDNNF = GOLDEN / "nets" / "tdnnf" / "trained.raw"


def run(capsys, *words):
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def test_without_a_command_it_lists_them(capsys):
    for words in ((), ("--help",)):
        status, out, _ = run(capsys, *words)
        assert status == 0
        assert all(f"  {name} " in out for name in commands())


def test_every_command_is_a_program_of_its_own():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    programs = {name for name in project["scripts"] if name != "nnet"}
    assert programs == {f"nnet-{name}" for name in commands()}


def test_a_misspelled_command(capsys):
    status, _, err = run(capsys, "comput", "a", "b")
    assert status == 1
    assert err == "nnet: there is no command 'comput'; did you mean 'compute'?\n"


@pytest.mark.parametrize("command", commands())
def test_every_command_has_help(command, capsys):
    status, out, err = run(capsys, command, "--help")
    assert (status, err) == (0, "")
    assert f"nnet {command}" in out
    assert "Example: nnet" in " ".join(out.split())


@pytest.mark.parametrize(
    "words", [["info"], ["info", "--nope", "x"], ["compile", "--frames=x", "m"]]
)
def test_wrong_options_end_with_status_1(words, capsys):
    status, out, err = run(capsys, *words)
    assert (status, out) == (1, "")
    assert "Error: " in err


def test_a_missing_file(capsys):
    status, out, err = run(capsys, "info", "/nowhere/final.mdl")
    assert (status, out) == (1, "")
    assert err == "nnet: /nowhere/final.mdl: cannot read: No such file or directory\n"


def test_compile_prints_the_plan_and_its_cost(capsys):
    words = ["compile", TDNNF, "--frame-subsampling-factor=3", "--output-name=output"]
    status, out, _ = run(capsys, *words)
    assert status == 0
    assert "plan for output 0..147 by 3 from ivector 0..0, input -10..157" in out
    assert "GFLOP per second of speech" in out
    status, out, _ = run(capsys, *words, "--dump")
    assert status == 0
    for name in ("lowered", "remove-dropout", "fold-forward", "splice", "fuse"):
        assert f"--- {name}: " in out
    status, out, _ = run(capsys, *words, "--training")
    assert status == 0
    assert "affine tdnn1.affine(" in out
    assert "| tdnn1.relu | tdnn1.batchnorm" in out


TORCH_FREE = [
    "import nnet",
    f"import nnet; nnet.load({str(TDNNF)!r})",
    f"from nnet.commands.main import main; main(['info', {str(TDNNF)!r}])",
    f"from nnet.commands.main import main; main(['compile', {str(TDNNF)!r}])",
    "from nnet.commands.main import main; main(['compute', '--nope'])",
    "from nnet.commands.main import main; main(['info', '/nowhere'])",
    "from nnet.commands.main import main; main(['train', '--help'])",
    "from nnet.commands.main import main; main(['compute', '--help'])",
]


@pytest.mark.parametrize("code", TORCH_FREE)
def test_the_front_of_the_house_does_without_torch(code):
    check = "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules))\n"
    done = subprocess.run(
        [sys.executable, "-c", check + code], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_a_full_standard_output_gives_one_line() -> None:
    done = subprocess.run(
        f"{sys.executable} -m nnet.commands.main info {TDNNF} > /dev/full",
        shell=True, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "nnet: standard output: cannot write: No space left on device\n"


def test_shell_commands_are_forbidden_by_an_option(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NNET_NO_PIPES", "")
    arguments = ["compute", str(TDNNF), f"ark:touch {tmp_path}/made |", f"ark:{tmp_path}/out.ark"]
    status, _, err = run(capsys, "--no-pipes", *arguments)
    assert status == 1
    assert "shell commands are forbidden" in err
    assert not list(tmp_path.iterdir())
