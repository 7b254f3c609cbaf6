"""C++ of this package: how its functions are called.

The library that `nnet.kernels.native_choice` names is loaded when it is first needed. Where there
is none, callers use their plain torch code; one line on standard error says why, and what it costs.

A function is declared as `NativeFunction(name, *types of arguments)` and called with tensors,
structures and numbers. A structure is declared as a subclass of `Struct`; that C++ has the same is
checked when a function takes it.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import (
    CDLL,
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_double,
    c_float,
    c_int64,
    c_void_p,
)
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter

from nnet.kernels import native_build, native_choice
from nnet.kernels.native_build import FOLDER, LIBRARIES
from nnet.kernels.native_choice import COST, REFERENCE, UnusableError

Constant = TypeVar("Constant", bool, str)


def constant_while_tracing(function: Callable[[], Constant]) -> Callable[[], Constant]:
    """What torch.compiler.assume_constant_result does: torch.compile takes the result as it is.

    That itself would import all of torch's compiler, and triton with it.
    """
    function.__dict__["_dynamo_marked_constant"] = True
    return function


def is_native(x: Tensor) -> bool:
    """Whether a tensor is float32 on a CPU with adjacent columns.

    A tensor without data, with which torch traces programs, is not.
    """
    real = type(x) in (Tensor, Parameter) and not torch.compiler.is_compiling()
    return real and x.device.type == "cpu" and x.dtype == torch.float32 and x.stride(-1) == 1


@dataclass(frozen=True, eq=False)
class Library:
    """A library that is loaded.

    Attributes:
        name: of its instruction set.
        has_matrix_units: whether x86's matrix units for bfloat16 can be used.
    """

    name: str
    functions: CDLL
    has_matrix_units: bool


class _Loaded:
    """The library that runs, once that is decided."""

    lock = threading.Lock()
    decided = False
    library: Library | None = None


def native_library(name: str = "native") -> CDLL | None:
    """The library with the functions of `NAME.cpp`, a file in a folder of kernels.

    None where there is no library that this machine can run; one line has said so.

    Raises:
        NnetError: `NNET_NATIVE` asks for what there is not.
        ValueError: there is no such file.
    """
    if name not in _files():
        raise ValueError(f"there is no {name}.cpp in {FOLDER}")
    library = loaded()
    return None if library is None else library.functions


@cache
def _files() -> frozenset[str]:
    """Names of files of C++, and their paths, without suffix."""
    files = [file.relative_to(FOLDER).with_suffix("") for file in native_build.sources()]
    return frozenset((*(file.name for file in files), *(file.as_posix() for file in files)))


def loaded() -> Library | None:
    """The library that runs, or None; raises as `native_library`."""
    if not _Loaded.decided:
        with _Loaded.lock:  # so that one thread alone says that there is none
            if not _Loaded.decided:
                _choose_library()
    return _Loaded.library


@constant_while_tracing
def has_matrix_units() -> bool:
    """Whether this processor has matrix units for bfloat16 (x86's AMX) that can be used."""
    library = loaded()
    return library is not None and library.has_matrix_units


@contextmanager
def forced(name: str) -> Iterator[None]:
    """While it lasts another library runs, or `reference`; for tests and measurements."""
    before = _Loaded.library, _Loaded.decided
    _Loaded.library = None if name == REFERENCE else load(name)
    _Loaded.decided = True
    try:
        yield
    finally:
        _Loaded.library, _Loaded.decided = before


def _choose_library() -> None:
    choice = native_choice.chosen()
    reason = "" if choice.asked else choice.reason
    if choice.name:
        try:
            _Loaded.library = load(choice.name)
        except UnusableError as error:
            reason = str(error)
    if reason:
        print(f"nnet: no native code: {reason}; {COST}", file=sys.stderr)
    _Loaded.decided = True


@cache
def load(name: str) -> Library:
    """The library for an instruction set that is `available`.

    Its file is compared with the hash beside it before the system sees it: to load a damaged one
    can end the process.

    Raises:
        UnusableError: it cannot be loaded.
    """
    file = FOLDER / LIBRARIES / f"{name}.so"
    try:
        if native_build.hash_of(file) != native_choice.manifest()["libraries"].get(name):
            raise UnusableError(f"{file} is damaged; {native_choice.remedy()}")
        functions = CDLL(str(file))
    except OSError as error:
        raise UnusableError(
            f"{file} cannot be loaded ({error}); {native_choice.remedy()}"
        ) from None
    team = _team()
    if team is not None:
        _set_team.bound(functions)(team)
    return Library(name, functions, bool(_has_units.bound(functions)()))


class Struct(Structure):
    """A structure of C++, by the name of the class without underscores before it.

    Tensors may be given for pointers; None is a null pointer. The structure keeps them alive, and
    those of structures in it.
    """

    def __init__(self, *values: object, **named: object) -> None:
        self._held = (values, tuple(named.values()))
        super().__init__(
            *map(_plain, values), **{name: _plain(value) for name, value in named.items()}
        )


def _plain(value: object) -> Any:
    return value.data_ptr() if isinstance(value, Tensor) else value


def adjacent(structures: Sequence[Struct]) -> Any:
    """Structures copied one after the other, as C++ reads several; at least one."""
    array: Any = (type(structures[0]) * len(structures))(*structures)
    array._held = tuple(structures)
    return array


class Address:
    """The type of an argument that is a tensor, an address, or None for a null pointer."""

    @classmethod
    def from_param(cls, value: Tensor | int | None) -> c_void_p:
        return c_void_p(_plain(value))


Table, Int, Double, Float = c_void_p, c_int64, c_double, c_float
"""Types of arguments; a table is the address of structures."""


class NativeFunction:
    """A function of C++.

    Args:
        name: in C++.
        arguments: their types: `Address`, `Table`, `Int`, `Double`, `Float`, or a `Struct`, which
            C++ takes by its address.
        result: the type of the result; None for none.
        tables: structures that it finds at an address.
    """

    def __init__(
        self,
        name: str,
        *arguments: type[Any],
        result: type[Any] | None = None,
        tables: Sequence[type[Struct]] = (),
    ) -> None:
        self.name, self._arguments, self._result = name, arguments, result
        self._tables = tables
        self._library: CDLL | None = None
        self._function: Any = None

    def __call__(self, *arguments: Any) -> Any:
        """Calls it in the library that runs; there has to be one. The arguments live meanwhile."""
        if torch.autograd.profiler._is_profiler_enabled:
            with torch.profiler.record_function(f"nnet::{self.name}"):
                return self.current()(*arguments)
        return self.current()(*arguments)

    def current(self) -> Any:
        """The function of the library that runs."""
        library = _Loaded.library
        if library is None or library.functions is not self._library:
            library = loaded()
            if library is None:
                raise RuntimeError(f"{self.name} is called, but there is no native code")
            self._library, self._function = library.functions, self.bound(library.functions)
        return self._function

    def bound(self, functions: CDLL) -> Any:
        """The function of a library, after a look at the layouts of structures."""
        function = functions[self.name]  # a new object, with types of its own
        for structure in (*self._arguments, *self._tables):
            if issubclass(structure, Struct):
                check_layout(functions, structure)
        types = (POINTER(t) if issubclass(t, Struct) else t for t in self._arguments)
        function.argtypes, function.restype = tuple(types), self._result
        return function


_OPERATORS = torch.library.Library("nnet", "FRAGMENT")


def native_operator(
    schema: str, fake: Callable[..., Any]
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Registers a function that computes natively as `torch.ops.nnet.NAME`.

    It is called as an operator while torch.compile traces, so that it is one node of the graph, and
    directly otherwise, which takes a tenth of the time. See `is_traceable`.

    Args:
        schema: as torch writes it, `name(Tensor x, bool squares) -> Tensor`.
        fake: makes empty results of the right shapes, for tracing.
    """

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        name = schema.partition("(")[0]
        _OPERATORS.define(schema)
        _OPERATORS.impl(name, function, "CPU")
        torch.library.register_fake(f"nnet::{name}", fake, lib=_OPERATORS)
        overload = getattr(torch.ops.nnet, name).default

        def call(*arguments: Any) -> Tensor:
            result: Tensor = (overload if torch.compiler.is_compiling() else function)(*arguments)
            return result

        return call

    return register


def is_traceable(x: Tensor) -> bool:
    """`is_native`, or the same of a tensor of torch.compile's, and there is native code: whether
    an `operator` takes it. What is exported is for programs that do not have our operators."""
    if not torch.compiler.is_compiling():
        return is_native(x) and loaded() is not None
    if torch.compiler.is_exporting() or not _is_there():
        return False
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.stride(-1) == 1


@constant_while_tracing
def _is_there() -> bool:
    return loaded() is not None


class _Member(Structure):
    _fields_ = (("name", c_char_p), ("offset", c_int64), ("size", c_int64), ("kind", c_char))


@cache
def check_layout(functions: CDLL, structure: type[Structure]) -> None:
    """Compares a structure, and those in it or that it points to, with the library's own.

    Raises:
        TypeError: they differ, which is a mistake in the declaration in Python or in C++.
    """
    name = structure.__name__.lstrip("_")
    expected = []
    first = _Member.in_dll(functions, f"layout_{name}")
    members = ctypes.cast(ctypes.pointer(first), POINTER(_Member))
    number = 0
    while members[number].name:
        member = members[number]
        expected.append((member.name.decode(), member.offset, member.size, member.kind))
        number += 1
    declared = []
    for field, kind, *_ in structure._fields_:
        inner = getattr(kind, "_type_", kind)  # of what a pointer points to
        if isinstance(inner, type) and issubclass(inner, Structure):
            check_layout(functions, inner)
        place = getattr(structure, field)
        declared.append((field, place.offset, place.size, _kind(kind)))
    sizes = ctypes.sizeof(structure), members[number].size
    if declared != expected or sizes[0] != sizes[1]:
        raise TypeError(f"structure {name} is {declared} in Python, {expected} in C++: {sizes}")


def _kind(kind: type[Any]) -> bytes:
    if issubclass(kind, Structure):
        return b"s"
    if kind in (c_double, c_float):
        return b"f"
    return b"i" if kind is c_int64 else b"p"


class _Team(Struct):
    """Addresses of functions of GNU's OpenMP, by which C++ runs on the threads that torch has."""

    _fields_ = tuple((name, c_void_p) for name in ("parallel", "barrier", "thread", "threads"))


_SYMBOLS = ("GOMP_parallel", "GOMP_barrier", "omp_get_thread_num", "omp_get_num_threads")
_set_team = NativeFunction("set_team", _Team)
_has_units = NativeFunction("has_units", result=c_int64)


def _team() -> _Team | None:
    """The functions of torch's own copy of OpenMP, to share its threads; None (one thread) if it
    has none."""
    folder = Path(torch.__file__).parent
    copies = [*folder.glob("lib/libgomp*.so*"), *folder.parent.glob("torch.libs/libgomp*.so*")]
    for place in (None, *map(str, sorted(copies))):  # None: what torch has loaded for everyone
        library = CDLL(place)
        if all(hasattr(library, symbol) for symbol in _SYMBOLS):
            return _Team(*(ctypes.cast(library[symbol], c_void_p).value for symbol in _SYMBOLS))
    return None
