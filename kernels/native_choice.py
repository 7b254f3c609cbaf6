"""Which of the libraries of C++ runs on this processor.

They are compiled when the package is installed, one for each instruction set (see
`nnet.kernels.native_build`). The best one that the processor can run is taken; `NNET_NATIVE=avx2`,
say, takes a lower one, and `NNET_NATIVE=reference` none. Nothing here needs torch.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from nnet.errors import NnetError
from nnet.kernels import native_build
from nnet.kernels.native_build import FOLDER, LIBRARIES, MANIFEST, NAMES, instruction_sets

VARIABLE = "NNET_NATIVE"
REFERENCE = "reference"
COST = (
    "plain torch runs in its place: inference on a CPU takes up to twice, training of recurrent "
    "networks up to five times as long"
)
REBUILD = "install the package again with a C++ compiler"
REBUILD_CHECKOUT = "run `python -m nnet.kernels.native_build`"


class UnusableError(Exception):
    """Why a library cannot be used, and what to do."""


@dataclass(frozen=True)
class Chosen:
    """The instruction set whose library runs, or why there is none.

    Attributes:
        name: '' if plain torch runs.
        reason: why no library runs.
        asked: whether that is what `NNET_NATIVE` asks for.
    """

    name: str = ""
    reason: str = ""
    asked: bool = False

    def __str__(self) -> str:
        """What runs, for people: 'avx512 (g++ 12.2.0)', or 'reference' and why."""
        if not self.name:
            return f"{REFERENCE} ({self.reason})"
        return f"{self.name} ({manifest()['compiler']})"

    @property
    def has_matrix_units(self) -> bool:
        """Whether it is compiled for x86's matrix units (AMX)."""
        return self.name == "amx"


@cache
def chosen() -> Chosen:
    """What the processor and `NNET_NATIVE` say.

    Raises:
        NnetError: `NNET_NATIVE` asks for what there is not.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted and wanted not in (REFERENCE, *NAMES):
        _refuse(wanted)
    if wanted == REFERENCE:
        return Chosen(reason=f"{VARIABLE}={REFERENCE}", asked=True)
    try:
        names = available()
        if wanted and wanted not in names:
            _refuse(wanted)
        if not names:
            reason = manifest()["reason"] or "no library fits this processor"
            raise UnusableError(f"{reason}; {remedy()}")
    except UnusableError as error:
        return Chosen(reason=str(error))
    return Chosen(wanted or names[0])


def available() -> list[str]:
    """The instruction sets that are compiled and that this processor can run, the best first."""
    libraries = manifest()["libraries"]
    flags = _processor_flags()
    return [one.name for one in instruction_sets() if one.needs <= flags and one.name in libraries]


def _refuse(wanted: str) -> NoReturn:
    try:
        here = ", ".join((REFERENCE, *available()))
    except UnusableError as error:
        here = f"{REFERENCE}, as there is no native code ({error})"
    raise NnetError(f"{VARIABLE} is '{wanted}'; expected one of those that run here: {here}")


@cache
def manifest() -> Any:
    """What was built, if it belongs to these sources."""
    file = FOLDER / LIBRARIES / MANIFEST
    try:
        manifest = json.loads(file.read_bytes())
        parts = [manifest[key] for key in ("sources", "compiler", "libraries", "reason")]
    except FileNotFoundError:
        raise UnusableError(f"it was not built; {remedy()}") from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UnusableError(f"{file} is damaged ({error}); {remedy()}") from None
    if [type(part) for part in parts] != [str, str, dict, str]:
        raise UnusableError(f"{file} is damaged; {remedy()}")
    if manifest["sources"] != native_build.digest():
        raise UnusableError(f"its source has changed since it was built; {remedy()}")
    return manifest


def remedy() -> str:
    checkout = (FOLDER.parent / "pyproject.toml").exists()
    return REBUILD_CHECKOUT if checkout else REBUILD


def _processor_flags() -> frozenset[str]:
    """What Linux says that the processor can do; nothing elsewhere."""
    if platform.system() != "Linux":
        return frozenset()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())
