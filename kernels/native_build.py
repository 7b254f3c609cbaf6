"""Compiles the C++ of the kernels, once for each instruction set, into shared libraries.

`setup.py` calls `build` when the package is installed or made into a wheel. In a checkout whose C++
has changed, `python -m nnet.kernels.native_build` does it again. Nothing is compiled when programs
run. This file uses the standard library alone, and no other of ours: it runs before anything is
installed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent.resolve()
LIBRARIES = "native_libraries"
MANIFEST = "manifest.json"

FLAGS = (
    "-std=c++17",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fopenmp-simd",
    "-fPIC",
    f"-I{FOLDER}",
)
"""No -ffast-math: linking with it changes how the whole process treats denormal numbers. No
-fopenmp either: it would bring threads of its own (see native.h)."""


class InstructionSet(NamedTuple):
    """What a library is compiled for.

    Attributes:
        name: what `NNET_NATIVE` calls it.
        flags: the compiler's.
        needs: flags of the processor in /proc/cpuinfo without which it cannot run.
    """

    name: str
    flags: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()


_AVX2 = ("-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2", "-mlzcnt", "-mpopcnt", "-mmovbe")
_AVX512 = (
    *(*_AVX2, "-mavx512f", "-mavx512cd", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
    "-mprefer-vector-width=512",  # all of a register, where the default is half of it
)
_AMX = (*_AVX512, "-mavx512vnni", "-mavx512bf16", "-mamx-tile", "-mamx-bf16")
_NEEDS_AVX2 = frozenset(("avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "popcnt", "movbe"))
_NEEDS_AVX512 = _NEEDS_AVX2 | {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}
_NEEDS_AMX = _NEEDS_AVX512 | {"avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16"}

_X86 = (
    InstructionSet("amx", _AMX, _NEEDS_AMX),
    InstructionSet("avx512", _AVX512, _NEEDS_AVX512),
    InstructionSet("avx2", _AVX2, _NEEDS_AVX2),
    InstructionSet("baseline"),
)
_SETS = {
    "x86_64": _X86,
    "amd64": _X86,
    "aarch64": (InstructionSet("neon"),),
    "arm64": (InstructionSet("neon"),),
}
NAMES = ("baseline", "avx2", "avx512", "amx", "neon")
"""Of all instruction sets, of any processor."""


def instruction_sets() -> tuple[InstructionSet, ...]:
    """The instruction sets that code is compiled for on this kind of processor, the best one
    first."""
    return _SETS.get(platform.machine().lower(), (InstructionSet("baseline"),))


def sources(suffix: str = ".cpp") -> list[Path]:
    """The files of C++ that are compiled, in order."""
    return sorted(FOLDER.rglob(f"*{suffix}"))


def digest() -> str:
    """A hash of all that libraries are made of: C++, and this file with the flags."""
    total = hashlib.sha256(Path(__file__).read_bytes())
    for file in (*sources(), *sources(".h")):
        total.update(f"\n{file.relative_to(FOLDER).as_posix()}\n".encode())
        total.update(file.read_bytes())
    return total.hexdigest()


def build(target: Path) -> str:
    """Writes the libraries and their manifest to a folder.

    It succeeds without a compiler too: then the manifest says why there are no libraries.

    Returns:
        One line about what was built, or why nothing was.
    """
    target.mkdir(parents=True, exist_ok=True)
    compiler, remark = _compiler()
    if compiler is not None and _is_built(target, _version(compiler)):
        return f"native code is there already ({_version(compiler)})"
    with tempfile.TemporaryDirectory(dir=target) as folder:
        built, reason = ({}, "") if compiler is None else _compile(compiler, Path(folder))
        hashes = {name: hash_of(library) for name, library in built.items()}
        for library in built.values():
            library.replace(target / library.name)
        manifest: dict[str, Any] = {
            "sources": digest(),
            "compiler": "" if compiler is None else _version(compiler),
            "libraries": hashes,
            "reason": "; ".join(filter(None, (remark, reason))),
        }
        written = Path(folder) / MANIFEST
        written.write_text(json.dumps(manifest, indent=1) + "\n")
        written.replace(target / MANIFEST)
    for old in target.glob("*.so"):
        if old.stem not in built:
            old.unlink()
    outcome = f"native code for {', '.join(built)}" if built else "no native code"
    return f"{outcome} ({'; '.join(filter(None, (manifest['compiler'], manifest['reason'])))})"


def _is_built(target: Path, compiler: str) -> bool:
    """Whether all libraries there are of this compiler and these sources, and whole."""
    try:
        manifest = json.loads((target / MANIFEST).read_bytes())
        hashes = {name: hash_of(target / f"{name}.so") for name in manifest["libraries"]}
    except (OSError, ValueError, LookupError, TypeError):
        return False
    expected = {"sources": digest(), "compiler": compiler, "libraries": hashes, "reason": ""}
    names = [one.name for one in instruction_sets()]
    return bool(manifest == expected and sorted(hashes) == sorted(names))


def _compiler() -> tuple[list[str] | None, str]:
    """The command of the compiler, `CXX` if that works, with a remark; None and why if there is
    none."""
    wanted = shlex.split(os.environ.get("CXX", ""))
    tried = [*([wanted] if wanted else []), ["c++"], ["g++"], ["clang++"]]
    for command in tried:
        if shutil.which(command[0]) and _version(command):
            ignored = bool(wanted) and command is not wanted
            return command, f"CXX={os.environ['CXX']} does not run" if ignored else ""
    names = ", ".join(f"'{' '.join(command)}'" for command in tried)
    return None, f"no C++ compiler was found when it was installed: tried {names}"


def _version(command: list[str]) -> str:
    """The first line that a compiler says about itself; '' if it does not run."""
    try:
        process = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return "" if process.returncode else process.stdout.partition("\n")[0].strip()


def _compile(compiler: list[str], folder: Path) -> tuple[dict[str, Path], str]:
    """Libraries by name; and the compiler's first complaint if one could not be made."""
    sets = instruction_sets()
    jobs = [(one, source) for one in sets for source in sources()]

    def compiled(job: tuple[InstructionSet, Path]) -> str:
        one, source = job
        parts = [*FLAGS, *one.flags, "-c", str(source), "-o", str(_part(folder, one, source))]
        return _run([*compiler, *parts])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        complaints = list(pool.map(compiled, jobs))
    failed = {one: text for (one, _), text in zip(jobs, complaints, strict=True) if text}
    libraries = {}
    for one in sets:
        if one in failed:
            continue
        library = folder / f"{one.name}.so"
        parts = [str(_part(folder, one, source)) for source in sources()]
        complaint = _run([*compiler, "-shared", *parts, "-o", str(library)])
        if complaint:
            failed[one] = complaint
        else:
            libraries[one.name] = library
    return libraries, "; ".join(f"{one.name}: {text}" for one, text in failed.items())


def _part(folder: Path, one: InstructionSet, source: Path) -> Path:
    name = "-".join(source.relative_to(FOLDER).with_suffix("").parts)
    return folder / f"{one.name}-{name}.o"


def _run(command: list[str]) -> str:
    """The first error that a command reports; '' if it succeeds."""
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if not process.returncode:
        return ""
    lines = process.stderr.splitlines() or [f"{command[0]} failed"]
    return next((line for line in lines if "error" in line), lines[0])[:200]


def hash_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


if __name__ == "__main__":
    print(build(FOLDER / LIBRARIES), file=sys.stderr)
