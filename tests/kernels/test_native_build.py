"""The C++ of kernels is compiled when the package is installed, or left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nnet.kernels import native_build, native_choice
from nnet.kernels.native_build import FOLDER, LIBRARIES, MANIFEST, InstructionSet, build

ROOT = FOLDER.parent
NO_COMPILER = "no C++ compiler was found when it was installed: tried 'c++', 'g++', 'clang++'"


@pytest.fixture
def one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single source for a single instruction set, so that to compile takes a second."""
    file, header = FOLDER / "native.cpp", FOLDER / "native.h"
    monkeypatch.setattr(native_build, "instruction_sets", lambda: (InstructionSet("baseline"),))
    monkeypatch.setattr(
        native_build, "sources", lambda suffix=".cpp": [file if suffix == ".cpp" else header]
    )
    monkeypatch.delenv("CXX", raising=False)


def manifest(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / MANIFEST).read_text())
    return found


def test_the_libraries_here_are_of_these_sources() -> None:
    found = manifest(FOLDER / LIBRARIES)
    assert found["sources"] == native_build.digest()
    for name, digest in dict(found["libraries"]).items():
        assert native_build.hash_of(FOLDER / LIBRARIES / f"{name}.so") == digest


@pytest.mark.parametrize("compiler", ["", "c++", "env c++", "  c++ -pipe "])
def test_a_compiler_may_be_a_command_with_words(
    compiler: str, tmp_path: Path, one_file: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler)
    assert build(tmp_path).startswith("native code for baseline (")
    assert list(manifest(tmp_path)["libraries"]) == ["baseline"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["baseline.so", MANIFEST]
    assert build(tmp_path).startswith("native code is there already (")


@pytest.mark.parametrize("compiler", ["no-such-compiler -x", "false", "/"])
def test_a_compiler_that_does_not_run_is_left_out_with_a_remark(
    compiler: str, tmp_path: Path, one_file: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler)
    assert build(tmp_path).endswith(f"; CXX={compiler} does not run)")
    assert list(manifest(tmp_path)["libraries"]) == ["baseline"]


def test_without_a_compiler_the_manifest_says_why(
    tmp_path: Path, one_file: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build(tmp_path) == f"no native code ({NO_COMPILER})"
    assert manifest(tmp_path)["reason"] == NO_COMPILER
    assert [file.name for file in tmp_path.iterdir()] == [MANIFEST]


def test_what_a_compiler_refuses_is_left_out(
    tmp_path: Path, one_file: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = (InstructionSet("future", ("-mno-such-instructions",)), InstructionSet("baseline"))
    monkeypatch.setattr(native_build, "instruction_sets", lambda: sets)
    build(tmp_path)
    found = manifest(tmp_path)
    assert list(found["libraries"]) == ["baseline"]
    assert str(found["reason"]).startswith("future: ")
    assert "no-such-instructions" in str(found["reason"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's wheel, made where there is no compiler."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "README.md", "kernels", "converters", "nnet"):
        command = ["cp", "-r", str(ROOT / name), str(source)]
        subprocess.run(command, check=True)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    without = {"PATH": str(made), "HOME": str(made)}
    subprocess.run([*pip, "-w", str(made), str(source)], check=True, env=without)
    (found,) = made.glob("*.whl")
    return found


def test_a_wheel_is_for_a_kind_of_machine_and_any_python(wheel: Path) -> None:
    _, _, python, abi, machine = wheel.stem.split("-")
    assert (python, abi) == ("py3", "none")
    assert machine != "any"
    names = zipfile.ZipFile(wheel).namelist()
    assert f"nnet/kernels/{LIBRARIES}/{MANIFEST}" in names
    assert "nnet/kernels/native.cpp" in names
    assert "nnet/kernels/cells/cells.cpp" in names


SCRIPT = """
import torch
from nnet.kernels.windows.cpu import native_sum
assert native_sum(torch.ones(5, 2, 3), False) is None
assert native_sum(torch.ones(5, 2, 3), False) is None
"""


def test_installed_without_a_compiler_one_line_says_what_it_costs(
    wheel: Path, tmp_path: Path
) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    kept = {name: value for name, value in os.environ.items() if name != native_choice.VARIABLE}
    kept |= {"PYTHONPATH": str(tmp_path / "installed"), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", SCRIPT]
    found = subprocess.run(
        command, capture_output=True, text=True, env=kept, check=True, cwd=tmp_path
    )
    expected = (
        f"nnet: no native code: {NO_COMPILER}; {native_choice.REBUILD}; {native_choice.COST}\n"
    )
    assert (found.stdout, found.stderr) == ("", expected)
