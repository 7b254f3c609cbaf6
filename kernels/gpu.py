"""What every Triton kernel is declared and launched with.

A kernel is a function in Triton's language under `@kernel(...)`: its configurations (block sizes,
warps, stages), and specimens of its calls with which it is compiled ahead of time. An operator is a
launcher that torch knows by schema and fake implementation.

In a process without a CUDA device kernels are declared interpreted. This must be decided before
`triton.language` declares its own functions, so kernel files take `tl` and `triton` from here.
"""

from __future__ import annotations

import importlib
import itertools
import linecache
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from nnet.kernels import implementation

__all__ = [
    "INTERPRETED",
    "KERNELS",
    "Configuration",
    "Specimen",
    "bucket",
    "device_function",
    "dot",
    "input_precision",
    "kernel",
    "operator",
    "tl",
    "triton",
]


@dataclass(frozen=True)
class Configuration:
    """A way to run a kernel.

    Attributes:
        constants: by name of a `tl.constexpr` parameter, mostly block sizes.
        warps: of 32 threads, in a program.
        stages: of the software pipeline, in loops that load and multiply.
        registers: of a thread at most; None leaves it to the assembler, which sometimes spills
            registers so that more programs run at a time.
    """

    constants: Mapping[str, int]
    warps: int = 4
    stages: int = 3
    registers: int | None = None

    @property
    def options(self) -> dict[str, int | None]:
        """The options of Triton's compiler: warps, stages and registers of a thread."""
        return {"num_warps": self.warps, "num_stages": self.stages, "maxnreg": self.registers}

    def __str__(self) -> str:
        blocks = " ".join(f"{name}={value}" for name, value in self.constants.items())
        return f"{blocks} warps={self.warps} stages={self.stages}"


@dataclass(frozen=True)
class Specimen:
    """A call that stands for many, to compile a kernel for without making it.

    Attributes:
        name: what it stands for, in the table of resources.
        arguments: by parameter of the kernel, but for the configuration's constants: a torch dtype
            for a tensor of it, numbers and other constants as they are, tuples of these.
    """

    name: str
    arguments: Mapping[str, Any]


Fits = Callable[[Configuration, Mapping[str, Any], int], bool]
"""Whether a configuration is worth trying for a call's arguments on an architecture (80, 90): not
where it would spill registers, or ask for more shared memory than there is."""


def _always(choice: Configuration, arguments: Mapping[str, Any], architecture: int) -> bool:
    return True


Grid = Callable[[Mapping[str, int]], tuple[int, ...]]


def choose_interpreter() -> bool:
    """Declares Triton's own functions interpreted if ours will be; says whether they are."""
    if implementation.compile_only or torch.cuda.is_available():
        return False
    triton.knobs.propagate_env = False  # processes that this one starts decide for themselves
    triton.knobs.runtime.interpret = True
    triton.knobs.propagate_env = True
    for module in (tl.standard, tl.random, tl):
        importlib.reload(module)
    return True


INTERPRETED = choose_interpreter()


def device_function(function: Callable[..., Any]) -> Any:
    """Declares a function that kernels call.

    In the interpreter it is the function as that runs it: called through its declaration, Triton's
    whole language would be made interpreted again each time, as a kernel's launch has done."""
    declared = triton.jit(function)
    return declared.rewrite() if INTERPRETED else declared


_TEXT_NUMBERS = itertools.count()


def function_of_text(name: str, text: str, names: Mapping[str, Any]) -> Callable[..., Any]:
    """The function `name` that a text defines, with `names` in reach; Triton finds its source."""
    file = f"<{name}, number {next(_TEXT_NUMBERS)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    namespace: dict[str, Any] = {"__name__": __name__, **names}
    exec(compile(text, file, "exec"), namespace)
    function: Callable[..., Any] = namespace[name]
    return function


_INTERPRETED = tl.constexpr(INTERPRETED)


@device_function
def dot(x, y, total, PRECISION: tl.constexpr):
    """total + x y, in float32; `PRECISION` as `input_precision` says.

    The interpreter, which does not multiply bfloat16, gets float32."""
    if _INTERPRETED:
        x = x.to(tl.float32)
        y = y.to(tl.float32)
    return tl.dot(x, y, total, input_precision=PRECISION)


@dataclass(eq=False)
class Kernel:
    """A declared kernel; calling it launches it."""

    name: str
    function: Any
    configurations: Sequence[Configuration]
    interpreted: Configuration
    specimens: Sequence[Specimen]
    fits: Fits
    chosen: dict[Hashable, Configuration] = field(default_factory=dict)

    def __call__(self, grid: Grid, /, *, like: Hashable = None, **arguments: Any) -> None:
        """Runs the kernel on the programs of `grid`, a function of the configuration's constants.

        Args:
            like: calls that are equal in this are tuned together: the first one tries every
                configuration and keeps the fastest for all.
            arguments: the kernel's, by name, and options of Triton's launcher.
        """
        if INTERPRETED:
            self._run(self.interpreted, grid, arguments)
            return
        device = next(a for a in arguments.values() if isinstance(a, Tensor)).device
        with torch.cuda.device(device):
            self._run(self._choose(grid, like, arguments), grid, arguments)

    def _run(self, choice: Configuration, grid: Grid, arguments: Mapping[str, Any]) -> None:
        self.function[grid(choice.constants)](**arguments, **choice.constants, **choice.options)

    def _choose(self, grid: Grid, like: Hashable, arguments: Mapping[str, Any]) -> Configuration:
        known = self.chosen.get(like)
        if known is not None:
            return known
        major, minor = torch.cuda.get_device_capability()
        able = [c for c in self.configurations if self.fits(c, arguments, 10 * major + minor)]
        if len(able) == 1 or torch.cuda.is_current_stream_capturing():
            return able[0]
        times = [self._time(choice, grid, arguments) for choice in able]
        self.chosen[like] = able[times.index(min(times))]
        return self.chosen[like]

    def _time(self, choice: Configuration, grid: Grid, arguments: Mapping[str, Any]) -> float:
        """Milliseconds; infinite where the device has too little shared memory or registers."""
        try:
            elapsed: float = triton.testing.do_bench(
                lambda: self._run(choice, grid, arguments), warmup=5, rep=20
            )
        except triton.OutOfResources:
            return float("inf")
        return elapsed


KERNELS: dict[str, Kernel] = {}
"""All kernels that are declared so far, by name `family.function`."""


def kernel(
    *,
    configurations: Sequence[Configuration],
    interpreted: Mapping[str, int],
    specimens: Sequence[Specimen],
    fits: Fits = _always,
) -> Callable[[Callable[..., Any]], Kernel]:
    """Declares a kernel. It must write all that it makes and add to nothing, so that it can be
    tuned by running it again.

    Args:
        configurations: those worth trying; the first is used where there is no time to try.
        interpreted: the constants of the interpreter's, so small that small tests have several
            blocks.
        specimens: with which each configuration is compiled ahead of time.
        fits: which configurations can be used for a call; one always can.
    """

    def declare(function: Callable[..., Any]) -> Kernel:
        subject = function.__module__.removeprefix("nnet.kernels.").split(".")
        family = ".".join(part for part in subject if part != "gpu")
        name = f"{family}.{function.__name__.lstrip('_')}"
        small = Configuration(interpreted)
        KERNELS[name] = Kernel(name, triton.jit(function), configurations, small, specimens, fits)
        return KERNELS[name]

    return declare


_LIBRARY = torch.library.Library("nnet", "FRAGMENT")


def operator(schema: str, fake: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Registers a launcher as the operator `torch.ops.nnet.NAME` and gives that back.

    Tensors that the schema says are changed count as changed in place, for autograd and for who
    keeps something that was made of them.

    Args:
        schema: as torch writes it, `name(Tensor x, int block_dim) -> Tensor`.
        fake: makes empty results of the right shapes, for tracing.
    """

    def register(launch: Callable[..., Any]) -> Any:
        name = schema.partition("(")[0]
        _LIBRARY.define(schema)
        overload = getattr(torch.ops.nnet, name).default
        written = [
            number
            for number, argument in enumerate(overload._schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]

        def run(*arguments: Any) -> Any:
            result = launch(*arguments)
            for number in written:
                torch.autograd.graph.increment_version(arguments[number])
            return result

        for device in ("CPU", "CUDA"):
            _LIBRARY.impl(name, run if written else launch, device)
        torch.library.register_fake(f"nnet::{name}", fake, lib=_LIBRARY)
        return overload

    return register


def input_precision(dtype: torch.dtype) -> str:
    """How products of float32 are made on tensor cores: torch.set_float32_matmul_precision's
    'highest' is three products of tf32 parts, which lose no more than float32 does; 'high' and
    'medium' are one. Other types have only one way."""
    exact = torch.get_float32_matmul_precision() == "highest"
    return "tf32x3" if dtype == torch.float32 and exact else "tf32"


def bucket(rows: int) -> int:
    """Numbers of rows that are tuned together: those between two powers of 2."""
    return int(triton.next_power_of_2(max(rows, 1)))
