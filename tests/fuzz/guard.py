"""Limits on time, memory, warnings and messages within which a case must end."""

from __future__ import annotations

import resource
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from nnet.errors import NnetError

SECONDS = 1.0
BYTES = 500 << 20
LONGEST_MESSAGE = 4000
LONGEST_LINE = 2500


class TooSlow(BaseException):
    """The time is over; no `except Exception` catches it."""


def outcome(read: Callable[[bytes], object], data: bytes, seconds: float = SECONDS) -> str | None:
    """What is wrong with how `read` ends on `data`; None if it ends well."""
    try:
        with _limits(seconds):
            read(data)
    except NnetError as error:
        return _wrong_message(str(error))
    except (Exception, TooSlow) as error:  # noqa: BLE001  (anything else is a finding)
        return _described(error)
    return None


def _wrong_message(message: str) -> str | None:
    longest = max(map(len, message.split("\n")), default=0)
    if len(message) > LONGEST_MESSAGE or longest > LONGEST_LINE:
        return f"a message of {len(message)} characters: {message[:300]}"
    if not message.strip():
        return "an empty message"
    return None


def _described(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/nnet/" in f.filename or "/converters/" in f.filename]
    place = ours[-1] if ours else frames[-1]
    where = f"{place.filename.rpartition('/nnet/')[2]}:{place.lineno} {place.name}"
    return f"{type(error).__name__} at {where}: {str(error)[:200]}"


@contextmanager
def _limits(seconds: float) -> Iterator[None]:
    """Processor time, so that other programs do not count; memory beyond what is in use now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + BYTES, hard))
    before = signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", ResourceWarning)
            yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _stop(number: int, frame: FrameType | None) -> None:
    raise TooSlow


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
