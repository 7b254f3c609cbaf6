"""How a process that computes uses the machine."""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = (1 << 31) - 1
OLD_KEPT_BYTES = 1 << 25
"""The most that glibc before 2.35 takes for `M_MMAP_THRESHOLD`."""


SPINS = "3000"
"""How often a waiting thread looks before it sleeps; see docs/how-it-is-fast.md."""


def settle() -> None:
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
