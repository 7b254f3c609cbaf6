"""How a process that computes uses the machine, and how it ends when it is told to."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = (1 << 31) - 1
OLD_KEPT_BYTES = 1 << 25
"""The most that glibc before 2.35 takes for `M_MMAP_THRESHOLD`."""


SPINS = "3000"
"""How often a waiting thread looks before it sleeps; see docs/how-it-is-fast.md."""


def set_up_process() -> None:
    """Settings for the commands, made before torch is loaded.

    Threads that wait for each other spin for some 0.2 ms before they sleep. With the default of
    GNU's OpenMP, 16 ms, another program on one of the cores makes training six times slower; with a
    third of the time, waking up makes a step on two free cores a tenth slower. And memory that
    was used once is kept for the next minibatch: glibc would give large pieces back at once, and
    getting them anew, page by page, can take longer than what is computed in them. torch asks for
    huge pages for large tensors, which then begin at multiples of 2 MB: no small piece comes to lie
    where one was, so that the next one of about the size finds room there.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it
    if mallopt is not None:
        if not mallopt(M_MMAP_THRESHOLD, KEPT_BYTES):
            mallopt(M_MMAP_THRESHOLD, OLD_KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


class Stopped(BaseException):
    """The process is told to end; no Exception, so that nothing takes it for an error.

    Args:
        number: of the signal.
        advice: for the user; or nothing.
        at_once: whether it came where nothing should be interrupted, as a second signal does.
    """

    def __init__(self, number: int, advice: str = "", *, at_once: bool = False) -> None:
        super().__init__(number, advice)
        self.number = number
        self.advice = advice
        self.at_once = at_once

    @property
    def status(self) -> int:
        """The exit status that shells give a process that a signal ended."""
        return 128 + self.number

    def __str__(self) -> str:
        how = "interrupted" if self.number == signal.SIGINT else "terminated"
        return f"{how}; {self.advice}" if self.advice else how


class _Signals:
    """What came while nothing may be interrupted.

    Attributes:
        depth: of `not_interrupted`.
        waiting: the signal that has come meanwhile.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.waiting: int | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.depth and self.waiting is None:
            self.waiting = number  # a second one is not deferred
            return
        self.waiting = None
        raise Stopped(number, at_once=self.depth > 0)


_signals = _Signals()


@contextmanager
def stop_at_signals() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM raise Stopped in the main thread."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    heard = [n for n in numbers if signal.getsignal(n) != signal.SIG_IGN]  # not after nohup
    before = {number: signal.signal(number, _signals.handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def not_interrupted() -> Iterator[None]:
    """Inside, a first signal waits; it raises Stopped when the outermost block ends."""
    if threading.current_thread() is not threading.main_thread():  # which signals do not reach
        yield
        return
    _signals.depth += 1
    try:
        yield
    finally:
        _signals.depth -= 1
    if not _signals.depth and _signals.waiting is not None:
        number, _signals.waiting = _signals.waiting, None
        raise Stopped(number)
