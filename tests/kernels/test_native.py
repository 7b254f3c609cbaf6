"""Which library of C++ runs, and what happens where it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from ctypes import c_int64, c_void_p
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nnet.errors import NnetError
from nnet.kernels import native, native_build, native_choice
from nnet.kernels.affine.spliced import spliced_affine
from nnet.kernels.affine.terms import Term
from nnet.kernels.native import NativeFunction, Struct, check_layout
from nnet.kernels.native_build import FOLDER, LIBRARIES, MANIFEST
from nnet.kernels.windows.cpu import native_deviations, native_sum

SCRIPT = """
import torch
from nnet.kernels import native
from nnet.kernels.windows.cpu import native_sum
for _ in range(2):
    made = native_sum(torch.ones(5, 2, 3), False)
print(made is not None)
"""


def test_the_best_library_that_runs_here_is_taken() -> None:
    sets = [one.name for one in native_build.instruction_sets()]
    made = native_choice.available()
    assert made
    assert [name for name in sets if name in made] == made
    library = native.load(made[0])
    assert native.native_library("native") is not None
    if os.environ.get(native_choice.VARIABLE) is None:
        assert native.loaded() is library
        assert str(native_choice.chosen()).startswith(f"{made[0]} (")


def test_only_files_that_there_are_have_libraries() -> None:
    assert native.native_library("cells/limit_cpu") is native.native_library("limit_cpu")
    with pytest.raises(ValueError, match=r"there is no no_such\.cpp"):
        native.native_library("no_such")


def test_the_libraries_share_torchs_threads() -> None:
    maps = Path("/proc/self/maps").read_text().splitlines()
    copies = {line.split()[-1] for line in maps if "omp" in line.rpartition("/")[2]}
    assert native.loaded() is not None
    assert len(copies) == 1
    assert native._team() is not None


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the kernels' folder, from which nothing is loaded yet."""
    folder = tmp_path / "nnet" / "kernels"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for module in (native, native_build, native_choice):
        monkeypatch.setattr(module, "FOLDER", folder)
    for name, value in (("decided", False), ("library", None)):
        monkeypatch.setattr(native._Loaded, name, value)
    for module, name in ((native_choice, "manifest"), (native_choice, "chosen"), (native, "load")):
        monkeypatch.setattr(module, name, cache(getattr(module, name).__wrapped__))
    monkeypatch.delenv(native_choice.VARIABLE, raising=False)
    return folder


def one_line(output: pytest.CaptureFixture[str]) -> str:
    """What is said, once, where there is no native code."""
    assert native.loaded() is None
    assert native.native_library() is None
    said = output.readouterr()
    (line,) = said.err.splitlines()
    assert not said.out
    return line


def test_a_copy_is_as_good(kernels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert native.loaded() is not None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", [*native_choice.available(), "reference"])
def test_a_variable_says_what_runs(
    name: str, kernels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(native_choice.VARIABLE, name)
    assert str(native_choice.chosen()).startswith(f"{name} (")
    assert (native.loaded() is None) == (name == "reference")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "name", ["avx", "neon" if "baseline" in native_choice.available() else "avx2"]
)
def test_a_variable_that_names_what_cannot_run_is_an_error(
    name: str, kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native_choice.VARIABLE, name)
    here = ", ".join(("reference", *native_choice.available()))
    expected = f"NNET_NATIVE is '{name}'; expected one of those that run here: {here}"
    for _ in range(2):
        with pytest.raises(NnetError) as error:
            native.loaded()
        assert str(error.value) == expected


def truncated(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def changed(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "truncated": truncated,
    "one bit": changed,
    "missing": Path.unlink,
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}
CASES = [(what, damage) for what in ("library", MANIFEST) for damage in DAMAGES]


@pytest.mark.parametrize(("what", "damage"), [c for c in CASES if c != (MANIFEST, "one bit")])
def test_a_damaged_file_gives_one_line_and_the_reference(
    what: str, damage: str, kernels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{native_choice.available()[0]}.so" if what == "library" else what
    native_choice.manifest.cache_clear()
    DAMAGES[damage](kernels / LIBRARIES / name)
    line = one_line(capsys)
    assert line.startswith("nnet: no native code: ")
    assert line.endswith(f"; {native_choice.REBUILD}; {native_choice.COST}")


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"sources": 1, "compiler": 2, "libraries": 3, "reason": 4}', "\0"]
)
def test_a_manifest_with_other_contents_is_damaged(
    content: str, kernels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (kernels / LIBRARIES / MANIFEST).write_text(content)
    assert f"{kernels / LIBRARIES / MANIFEST} is damaged" in one_line(capsys)


def test_sources_that_have_changed_say_what_to_run(
    kernels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (kernels.parent / "pyproject.toml").touch()  # so that it is a checkout
    with (kernels / "native.h").open("a") as file:
        file.write("// changed\n")
    assert one_line(capsys) == (
        "nnet: no native code: its source has changed since it was built; "
        f"run `python -m nnet.kernels.native_build`; {native_choice.COST}"
    )


def test_a_damaged_library_does_not_end_a_process(tmp_path: Path) -> None:
    package = tmp_path / "nnet"
    package.mkdir()
    for file in (FOLDER.parent / "nnet").iterdir():
        if file.name != "kernels":
            (package / file.name).symlink_to(file.resolve())
    shutil.copytree(FOLDER, package / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    truncated(package / "kernels" / LIBRARIES / f"{native_choice.available()[0]}.so")
    kept = {name: value for name, value in os.environ.items() if name != native_choice.VARIABLE}
    kept |= {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", SCRIPT]
    found = subprocess.run(command, capture_output=True, text=True, env=kept, check=True)
    assert found.stdout == "False\n"
    (line,) = found.stderr.splitlines()
    assert "is damaged" in line


class RowAddresses(Struct):
    """With its members in another order."""

    _fields_ = (("data", c_void_p), ("batch", c_int64), ("time", c_int64))


def test_structures_that_differ_from_those_of_cpp_are_refused() -> None:
    functions = native.native_library()
    assert functions is not None
    with pytest.raises(TypeError, match=r"RowAddresses is .*'batch', 8, 8, .*'time', 8, 8, "):
        check_layout(functions, RowAddresses)
    with pytest.raises(TypeError, match="structure RowAddresses"):
        NativeFunction("lstm_forward", RowAddresses).current()


def test_a_structure_keeps_its_tensors() -> None:
    x = torch.ones(3)
    address, references = x.data_ptr(), sys.getrefcount(x)
    rows = RowAddresses(x, 1, 2)
    assert rows.data == address
    assert sys.getrefcount(x) == references + 1
    assert RowAddresses(None, 1, 2).data is None


def test_what_is_not_there_cannot_be_called() -> None:
    with native.forced("reference"):
        assert native_sum(torch.ones(5, 2, 3), False) is None
        with pytest.raises(RuntimeError, match="set_team is called, but there is no native code"):
            NativeFunction("set_team").current()


def test_torch_compile_makes_native_operators_of_its_graph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, weight, bias = torch.randn(9, 40, 300), torch.randn(300, 600), torch.randn(300)
    terms = [Term(0, start, 1, 8, None, 0, 300) for start in (0, 1)]
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, examples: object) -> Callable[..., object]:
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    def pooled(source: Tensor) -> tuple[Tensor | None, Tensor | None]:
        made = spliced_affine([source], terms, weight, bias, implementation="native")
        return native_sum(made, True), native_deviations(made, 0.1)

    compiled = torch.compile(pooled, fullgraph=True, backend=backend)
    for found, expected in zip(compiled(source), pooled(source), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    assert {"nnet.window_sum.default", "nnet.window_deviations.default"} <= set(seen)
    assert ("nnet.product_with_bias.default" in seen) == native.has_matrix_units()


def test_what_is_exported_has_none_of_our_operators() -> None:
    class Affine(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            terms, weight = [Term(0, 0, 1, 9, None, 0, 300)], torch.ones(300, 300)
            return spliced_affine([x], terms, weight, None, implementation="native")

    exported = torch.export.export(Affine(), (torch.randn(9, 40, 300),))
    assert "nnet" not in str(exported.graph)


OPERATORS = {
    "window_sum": (torch.randn(7, 2, 70), True),
    "window_deviations": (torch.randn(7, 2, 70), 0.1),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_what_torch_expects(name: str) -> None:
    torch.library.opcheck(getattr(torch.ops.nnet, name).default, OPERATORS[name])


def test_a_profiler_sees_functions() -> None:
    with torch.profiler.profile() as profile:
        native_sum(torch.ones(5, 2, 3), False)
    assert "nnet::window_sum" in {event.key for event in profile.key_averages()}
