"""Several pieces of work at once on a CPU, each on one thread of its own.

A thread that carries out whole operations one after the other has no other to wait for, which is
faster than sharing each operation among all of them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import torch


def run_together(jobs: Iterable[Callable[[], object]]) -> None:
    """Carries out jobs on as many threads as torch uses, without gradients.

    Raises:
        Exception: what the first job that failed raised; the others are carried out nevertheless.
    """
    threads = torch.get_num_threads()
    inference = torch.is_inference_mode_enabled()

    def run(job: Callable[[], object]) -> None:
        with torch.inference_mode() if inference else torch.no_grad():
            job()

    for done in [_pool(threads).submit(run, job) for job in jobs]:
        done.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that do not divide their operations any further."""
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    for started in [pool.submit(torch.get_num_threads) for _ in range(threads)]:
        started.result()
    torch.set_num_threads(threads)  # what a thread sets, later ones begin with
    return pool


if hasattr(os, "register_at_fork"):  # a child process has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
