"""C++ of this package, compiled once for this machine by the compiler that is found, and kept.

Where there is no C++ compiler (`CXX`, c++, g++ or clang++), callers use their plain torch code.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import Parameter

FOLDER = Path(__file__).parent
FLAGS = [
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fopenmp-simd",
    "-fPIC",
]
"""No -ffast-math: linking with it changes how the whole process treats denormal numbers."""

WIDE = "-mprefer-vector-width=512"
"""For x86: all of a vector register, where the default is half of it."""


def is_native(x: Tensor) -> bool:
    """Whether a tensor is float32 on a CPU with adjacent columns.

    A tensor without data, with which torch traces programs, is not.
    """
    real = type(x) in (Tensor, Parameter)
    return real and x.device.type == "cpu" and x.dtype == torch.float32 and x.stride(-1) == 1


@functools.cache
def native_library(name: str) -> ctypes.CDLL | None:
    """The library made of `NAME.cpp` in a folder of kernels; None without a working compiler.

    Compiling takes a second or two; the result is kept in the user's cache folder for this source
    and the headers beside it, compiler and processor.
    """
    compiler = next(filter(None, map(shutil.which, _compilers())), None)
    if compiler is None:
        return None
    source = next(FOLDER.rglob(f"{name}.cpp"))
    flags = [*FLAGS, WIDE] if platform.machine() in ("x86_64", "AMD64") else FLAGS
    openmp = _openmp()
    made = " ".join([compiler, _version(compiler), *flags, openmp, _processor()])
    sources = [source, *sorted(FOLDER.rglob("*.h"))]
    content = b"".join(file.read_bytes() for file in sources)
    key = hashlib.sha256(content + made.encode()).hexdigest()[:24]
    library = _cache() / f"{name}-{key}.so"
    if not library.exists() and not _make([compiler, *flags], source, openmp, library):
        return None
    return ctypes.CDLL(str(library))


def _openmp() -> str:
    """torch's own copy of GNU's OpenMP, to share its threads; '' (one thread) if it has none."""
    found = sorted(Path(torch.__file__).with_name("lib").glob("libgomp*.so*"))
    return str(found[0]) if found else ""


def _compilers() -> list[str]:
    return [os.environ.get("CXX", "c++"), "c++", "g++", "clang++"]


def _version(compiler: str) -> str:
    found = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    return found.stdout.partition("\n")[0]


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "nnet"


def _make(command: list[str], source: Path, openmp: str, library: Path) -> bool:
    """Puts the library there, whole; False if the compiler or the folder refuses."""
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            made, parts = Path(folder) / library.name, Path(folder) / "parts.o"
            threads = ["-fopenmp"] if openmp else []
            compiled = [*command, *threads, f"-I{FOLDER}", "-c", str(source)]
            linked = [command[0], "-shared", str(parts), *([openmp] if openmp else [])]
            for step in ([*compiled, "-o", str(parts)], [*linked, "-o", str(made)]):
                if subprocess.run(step, capture_output=True, check=False).returncode:
                    return False
            made.replace(library)
            return True
    except OSError:
        return False
