"""How the commands set up their process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nnet.data.streams import open_input, open_output
from nnet.process import Stopped, not_interrupted, set_up_process, stop_at_signals


def test_settings_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    set_up_process()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"


def test_large_tensors_get_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    set_up_process()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "status", "text"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_signals_end_what_is_going_on(number: int, status: int, text: str) -> None:
    with pytest.raises(Stopped) as stop, stop_at_signals():
        send(number)
    assert (stop.value.status, str(stop.value)) == (status, text)
    assert not stop.value.at_once


def test_a_signal_waits_for_the_end_of_the_outermost_block() -> None:
    done = []

    def work() -> None:
        with not_interrupted():
            with not_interrupted():
                send(signal.SIGTERM)
                done.append(1)
            done.append(2)
        done.append(3)

    with pytest.raises(Stopped) as stop, stop_at_signals():
        work()
    assert done == [1, 2]
    assert not stop.value.at_once


def test_a_second_signal_does_not_wait() -> None:
    def work() -> None:
        with not_interrupted():
            send(signal.SIGTERM)
            send(signal.SIGINT)
            raise AssertionError

    with pytest.raises(Stopped) as stop, stop_at_signals():
        work()
    assert (stop.value.number, stop.value.at_once) == (signal.SIGINT, True)
    with not_interrupted():
        pass


def test_other_threads_may_not_be_interrupted_either() -> None:
    def work() -> None:
        with not_interrupted():
            results.append(1)

    results: list[int] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [1]


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_at_signals():
            send(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def quickly() -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 20


def test_nobody_waits_for_a_command_whose_output_is_not_wanted() -> None:
    def read() -> None:
        with open_input("echo a; exec sleep 60 |") as reader:
            assert reader.take(2) == b"a\n"
            raise Stopped(signal.SIGTERM)

    with quickly(), pytest.raises(Stopped):
        read()


def test_a_command_does_not_take_a_part_of_the_data_for_the_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def write() -> None:
        with open_output(f"| cat > {target}.x; mv {target}.x {target}") as out:
            out.write(b"half")
            out.flush()
            raise Stopped(signal.SIGTERM)

    with quickly(), pytest.raises(Stopped):
        write()
    assert not target.exists()
