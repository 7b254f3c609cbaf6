"""Compiles every kernel in every configuration, without a GPU, and reads what it uses.

`python -m tools.ahead_of_time` prints a table; `--write FILE` keeps it as JSON. A test holds
tests/kernels/resources.json against what is compiled.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import pkgutil
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch

import nnet.kernels
from nnet.kernels import implementation

ARCHITECTURES = (80, 90)
PROCESSES = 2
TYPE_NAMES = {
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.int8: "i8",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.bool: "i1",
    torch.uint8: "u8",
}


class Job(NamedTuple):
    """One compilation: a kernel by name, its specimen and configuration by number."""

    kernel: str
    specimen: int
    configuration: int
    architecture: int


class Resources(NamedTuple):
    """What a compiled kernel uses.

    Attributes:
        registers: of a thread.
        stack: bytes of a thread's local memory; more than 0 where registers are spilled.
        shared: bytes of a program's shared memory.
    """

    registers: int
    stack: int
    shared: int


Table = dict[str, Resources]
"""By `kernel / specimen / configuration / sm_80`."""


def declare_all() -> Any:
    """Declares all kernels, to be compiled; gives `nnet.kernels.gpu`."""
    implementation.compile_only = True
    import_kernels()
    importlib.import_module("tools.recurrence_specimens")
    return importlib.import_module("nnet.kernels.gpu")


def import_kernels() -> None:
    """Imports every file of Triton kernels: those called `gpu` in the folders of `kernels`."""
    for module in pkgutil.walk_packages(nnet.kernels.__path__, "nnet.kernels."):
        if "gpu" in module.name.split("."):
            importlib.import_module(module.name)


def jobs(kernels: Mapping[str, Any], pattern: str = "") -> list[Job]:
    """All compilations of the kernels whose names contain `pattern`."""
    return [
        Job(name, specimen, configuration, architecture)
        for name, kernel in sorted(kernels.items())
        if pattern in name
        for specimen, call in enumerate(kernel.specimens)
        for configuration, choice in enumerate(kernel.configurations)
        for architecture in ARCHITECTURES
        if kernel.fits(choice, call.arguments, architecture)
    ]


def compile_table(pattern: str = "") -> Table:
    """Compiles the kernels whose names contain `pattern`, in several processes."""
    wanted = jobs(declare_all().KERNELS, pattern)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        return dict(pool.map(compile_job, wanted))


def compile_job(job: Job) -> tuple[str, Resources]:
    """Compiles, and reads what the result uses; gives the table's key too."""
    compiled = _compile(job)
    kernel = declare_all().KERNELS[job.kernel]
    specimen, choice = kernel.specimens[job.specimen], kernel.configurations[job.configuration]
    key = f"{job.kernel} / {specimen.name} / {choice} / sm_{job.architecture}"
    return key, _resources(compiled.asm["cubin"], compiled.metadata.shared)


def assembly(kernel: str, architecture: int) -> str:
    """The PTX of a kernel by name, for its first specimen."""
    first = next(j for j in jobs(declare_all().KERNELS, kernel) if j.architecture == architecture)
    return str(_compile(first).asm["ptx"])


def _compile(job: Job) -> Any:
    from triton.backends.compiler import GPUTarget

    support = declare_all()
    kernel = support.KERNELS[job.kernel]
    choice = kernel.configurations[job.configuration]
    arguments = {**kernel.specimens[job.specimen].arguments, **choice.constants}
    return support.triton.compile(
        _source(kernel.function, arguments),
        target=GPUTarget("cuda", job.architecture, 32),
        options=choice.options,
    )


def _source(function: Any, given: Mapping[str, Any]) -> Any:
    """What Triton's compiler takes, for a call with these arguments."""
    from triton.compiler import ASTSource

    values = tuple(given[name] for name in function.arg_names)
    described = [
        ("constexpr", None) if parameter.is_constexpr else _described(value)
        for value, parameter in zip(values, function.params, strict=True)
    ]
    types = tuple(kind for kind, _ in described)
    marks = tuple(mark for _, mark in described)
    constants = [path for path, kind in _leaves(types) if kind == "constexpr"]
    divisible = [path for path, mark in _leaves(marks) if mark == "divisible"]
    return ASTSource(
        function,
        dict(zip(function.arg_names, types, strict=True)),
        {path: _at(values, path) for path in constants},
        {path: [["tt.divisibility", 16]] for path in divisible},
    )


def _described(value: Any) -> tuple[Any, Any]:
    """An argument's type and whether it is divisible by 16, as a launch would find them."""
    if isinstance(value, tuple):
        parts = [_described(part) for part in value]
        return tuple(kind for kind, _ in parts), tuple(mark for _, mark in parts)
    if isinstance(value, torch.dtype):
        return f"*{TYPE_NAMES[value]}", "divisible"
    if value is None or isinstance(value, str | bool) or (value == 1 and isinstance(value, int)):
        return "constexpr", None
    if isinstance(value, float):
        return "fp32", None
    return "i32" if value < 2**31 else "i64", None if value % 16 else "divisible"


TreePath = tuple[int, ...]


def _leaves(tree: Any, path: TreePath = ()) -> Iterator[tuple[TreePath, Any]]:
    """All that is no tuple, with its path from the root."""
    if isinstance(tree, tuple):
        for number, part in enumerate(tree):
            yield from _leaves(part, (*path, number))
    else:
        yield path, tree


def _at(tree: Any, path: TreePath) -> Any:
    for number in path:
        tree = tree[number]
    return tree


def _resources(cubin: bytes, shared: int) -> Resources:
    """What cubin's own table says of its only kernel."""
    import triton

    program = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(program), "-res-usage", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}
    return Resources(found["REG"], max(found["STACK"], found["LOCAL"]), shared)


def read_table(file: Path) -> Table:
    """The table that `write_table` wrote."""
    return {key: Resources(*row) for key, row in json.loads(file.read_text()).items()}


def write_table(table: Table, file: Path) -> None:
    """Writes one line a compilation."""
    rows = [f"{json.dumps(key)}: {json.dumps(list(row))}" for key, row in sorted(table.items())]
    file.write_text("{\n" + ",\n".join(rows) + "\n}\n")


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.ahead_of_time")
    parser.add_argument("pattern", nargs="?", default="", help="only kernels with this in the name")
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the table as JSON")
    options = parser.parse_args(arguments)
    table = compile_table(options.pattern)
    for key, row in sorted(table.items()):
        print(f"{row.registers:4d} registers {row.stack:5d} stack {row.shared:7d} shared  {key}")
    if options.write is not None:
        kept = read_table(options.write) if options.pattern and options.write.exists() else {}
        write_table({**kept, **table}, options.write)


if __name__ == "__main__":
    main(sys.argv[1:])
