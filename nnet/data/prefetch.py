"""Work done ahead in a thread, so that the device does not wait for data."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

from nnet.process import Stopped

S = TypeVar("S")
T = TypeVar("T")


@contextmanager
def prefetch(make: Callable[[S], T], items: Sequence[S], ahead: int = 4) -> Iterator[Iterator[T]]:
    """`make(item)` for each item in order, up to `ahead` of them made before they are wanted.

    The order, and so the result, is the same as without a thread. An exception in `make` is
    raised where its item would have come. Leaving the block ends the thread.
    """
    made: queue.Queue[Future[T]] = queue.Queue(ahead)
    stop = threading.Event()

    def work() -> None:
        for item in items:
            result: Future[T] = Future()
            try:
                result.set_result(make(item))
            except Exception as error:  # noqa: BLE001 - raised again by the reader
                result.set_exception(error)
            while not stop.is_set():
                try:
                    made.put(result, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if stop.is_set() or result.exception() is not None:
                return

    def results() -> Iterator[T]:
        for _ in items:
            yield made.get().result()

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        yield results()
    except Stopped:
        stop.set()
        raise  # without the thread, which may wait for the output of a command
    except BaseException:
        stop.set()
        thread.join()
        raise
    stop.set()
    thread.join()
