"""What the benchmark programs share: timing, the machine, and how results are kept."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch

from nnet.process import set_up_process

set_up_process()  # memory is kept as the commands do, for all that is compared

RESULTS = Path(__file__).parent / "results"


def best_seconds(run: Callable[[], object], repeats: int = 7) -> float:
    """The shortest of `repeats` runs after two that warm up."""
    run()
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


VISITS = 2
PAUSE = 0.2
"""Seconds after which the threads of another library have stopped to wait for more work."""


def best_in_turns(runs: Mapping[str, Callable[[], object]], rounds: int = 7) -> dict[str, float]:
    """The shortest time of each.

    Each has two turns of some runs in a row, so that a busy machine slows all of them alike and
    none finds the caches and the processor as another left them.
    """
    best = dict.fromkeys(runs, math.inf)
    for _ in range(VISITS):
        for name, run in runs.items():
            time.sleep(PAUSE)
            best[name] = min(best[name], best_seconds(run, rounds))
    return best


def copy_bandwidth(size: int = 1 << 26) -> float:
    """Of the main memory, in bytes per second, read and written."""
    source, target = torch.ones(size), torch.ones(size)
    return 2 * source.nbytes / best_seconds(lambda: target.copy_(source), 5)


def sgemm_peak(size: int = 1024) -> float:
    """Single-precision matrix products of the machine, in FLOP per second."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    out = torch.empty(size, size)
    return 2 * size**3 / best_seconds(lambda: torch.mm(a, b, out=out), 40)


@dataclass(frozen=True)
class Row:
    """One measurement of ours against a peer in the same run; times in seconds.

    `bound` is what limits it (arithmetic, memory or launch), and `bound_seconds` the time that the
    machine's measured speed at that would allow.
    """

    subject: str
    shape: str
    threads: int
    ours: float
    peer: str
    theirs: float
    bound: str = ""
    bound_seconds: float = 0.0

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.theirs / self.ours

    def __str__(self) -> str:
        return (
            f"{self.subject:<28} {self.shape:<26} threads {self.threads}   "
            f"ours {self.ours * 1e3:9.1f} ms   {self.peer:<34} {self.theirs * 1e3:9.1f} ms   "
            f"ratio {self.ratio:5.2f}"
        )


def machine() -> dict[str, object]:
    """What was measured on, and with which versions."""
    return {
        "date": date.today().isoformat(),
        "cpu": _cpu(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def save(name: str, rows: list[Row], **more: object) -> None:
    """Writes `results/NAME.json`."""
    RESULTS.mkdir(exist_ok=True)
    entries = [{**asdict(row), "ratio": round(row.ratio, 3)} for row in rows]
    content = {"machine": machine(), **more, "rows": entries}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
