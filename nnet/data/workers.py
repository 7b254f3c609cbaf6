"""Work done ahead in other processes, whose results come through shared memory."""

from __future__ import annotations

import queue
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.multiprocessing as mp

from nnet.data.prefetch import prefetch
from nnet.errors import NnetError

S = TypeVar("S")
T = TypeVar("T")

AHEAD = 2
"""Results that each process makes before they are wanted."""
PATIENCE = 5.0
"""Seconds after which a process that gives nothing is looked at."""


@dataclass(frozen=True)
class Failure:
    """An exception in a process: its text, and whether it is a user's mistake."""

    message: str
    is_mistake: bool

    def error(self) -> Exception:
        return NnetError(self.message) if self.is_mistake else RuntimeError(self.message)


@contextmanager
def made_ahead(
    maker: Callable[[], Callable[[S], T]], items: Sequence[S], workers: int
) -> Iterator[Iterator[T]]:
    """`maker()(item)` for each item in order, made before they are wanted.

    The results and their order do not depend on `workers`. An exception is raised where its item
    would have come. Leaving the block ends the work.

    Args:
        maker: gives the function; is called in each process, so that each has its own open files.
        items: what to make results of.
        workers: processes, forked from this one; 0: a thread of this one.

    Raises:
        NnetError: a process was killed.
    """
    if workers == 0:
        with prefetch(maker(), items) as made:
            yield made
        return
    context = mp.get_context("fork")
    count = min(workers, len(items))
    queues = [context.Queue(AHEAD) for _ in range(count)]
    processes = [
        context.Process(target=_work, args=(maker, items[k::count], queues[k]), daemon=True)
        for k in range(count)
    ]
    with ExitStack() as ending:
        for process in processes:
            process.start()
            ending.callback(_end, process)
        yield (_take(queues[k % count], processes[k % count]) for k in range(len(items)))


def _work(maker: Callable[[], Callable[[S], T]], items: Sequence[S], results: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its processes
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    try:
        make = maker()
        for item in items:
            results.put(make(item))
    except Exception as error:  # noqa: BLE001 - raised again by the reader
        is_mistake = isinstance(error, NnetError)
        results.put(Failure(str(error) if is_mistake else traceback.format_exc(), is_mistake))
    results.close()
    results.join_thread()
    signal.pause()  # tensors in shared memory are handed over while their maker lives


def _take(results: Any, process: Any) -> Any:
    while True:
        try:
            result = results.get(timeout=PATIENCE)
            break
        except queue.Empty:
            if not process.is_alive():
                raise NnetError(
                    f"a process that makes minibatches ended with status {process.exitcode}; "
                    "perhaps there was too little memory: try fewer --num-workers"
                ) from None
    if isinstance(result, Failure):
        raise result.error()
    return result


def _end(process: Any) -> None:
    process.terminate()
    process.join()
