"""Steps that are recorded once and then repeated on the same memory, as CUDA graphs are.

Only the device's work is repeated. So while a step is recorded nobody may look at what tensors
hold, and nothing may be sent to the device. What the host has to say anew in each step, such as a
learning rate, it says by `number` and `numbers`; what it has to do anew, such as counting, by
`also`. All of that is done in its order before each repetition.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

MOST_NUMBERS = 1 << 14
"""Of a step, that the host says."""


class Script:
    """What the host does in a recorded step.

    Args:
        device: of the step.
    """

    def __init__(self, device: torch.device) -> None:
        self._numbers = torch.zeros(MOST_NUMBERS, dtype=torch.float64, device=device)
        self._values: list[float] = []
        self._parts: list[Callable[[], Sequence[float]]] = []
        self._tables: list[tuple[Tensor, Tensor]] = []

    def add(self, part: Callable[[], Sequence[float]]) -> Tensor:
        """Does something now and before each repetition; its numbers, float64 (count,), on the
        device."""
        numbers = part()
        first, end = len(self._values), len(self._values) + len(numbers)
        if end > MOST_NUMBERS:
            raise ValueError(f"a recorded step has more than {MOST_NUMBERS} numbers")
        self._parts.append(part)
        self._values.extend(numbers)
        return self._numbers[first:end]

    def table(self, table: Tensor) -> Tensor:
        """A table that never changes on the device, if it has to be sent there by `begin`."""
        if table.device == self._numbers.device:
            return table
        on_device = torch.empty_like(table, device=self._numbers.device)
        self._tables.append((on_device, table))
        return on_device

    def begin(self) -> None:
        """Sends what was said while the step was recorded, before it is run for the first time."""
        for place, table in self._tables:
            place.copy_(table)
        self._send(self._values)

    def again(self) -> None:
        """Does and sends everything anew, before a repetition."""
        self._send([value for part in self._parts for value in part()])

    def _send(self, values: Sequence[float]) -> None:
        if values:
            given = torch.tensor(values, dtype=torch.float64)
            self._numbers[: len(values)].copy_(_pinned(given, self._numbers), non_blocking=True)


_script: Script | None = None


@contextmanager
def recording(script: Script) -> Iterator[None]:
    """Within this a step is recorded."""
    global _script
    before, _script = _script, script
    try:
        yield
    finally:
        _script = before


def may_look(tensor: Tensor) -> bool:
    """Whether the host may look at what a tensor holds: on a CPU, where nobody has to be waited
    for, if no step is recorded."""
    return tensor.device.type == "cpu" and _script is None


def number(function: Callable[[], float]) -> float | Tensor:
    """What the function gives; in a recorded step a scalar on the device, said anew each time."""
    return function() if _script is None else _script.add(lambda: (function(),))[0]


def numbers(function: Callable[[], Sequence[float]], like: Tensor) -> Tensor:
    """Several numbers that the function gives, (count,), with the type and device of `like`; in a
    recorded step they are said anew each time."""
    if _script is None:
        given = torch.tensor(function(), dtype=like.dtype)
        return _pinned(given, like).to(like.device, non_blocking=True)
    return _script.add(function).to(like.dtype)


def also(function: Callable[[], None]) -> None:
    """Does something on the host, and in a recorded step anew each time."""
    if _script is None:
        function()
        return

    def part() -> Sequence[float]:
        function()
        return ()

    _script.add(part)


def table(numbers: Tensor, device: torch.device) -> Tensor:
    """Numbers that never change in a recorded step, from the CPU on a device."""
    if _script is not None:
        return _script.table(numbers)
    return _pinned(numbers, device).to(device, non_blocking=True)


@functools.lru_cache(maxsize=256)
def constants(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers that are the same in most steps, kept on the device, (count,)."""
    return table(torch.tensor(numbers, dtype=dtype), device)


def _pinned(numbers: Tensor, where: Tensor | torch.device) -> Tensor:
    """In memory from which a GPU fetches by itself; a copy for a CPU is the tensor itself."""
    device = where.device if isinstance(where, Tensor) else where
    return numbers if device.type == "cpu" else numbers.pin_memory()
