"""`python -m tests.fuzz --seconds 120 --seed 1`: damaged files through every reader."""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from nnet.errors import NnetError
from tests.fuzz.guard import SECONDS, outcome
from tests.fuzz.mutations import mutated
from tests.fuzz.specimens import kinds, specimens
from tests.fuzz.targets import TARGETS

SLOW = ("sem_compute", "sem_train")
"""Kinds that take long and get fewer cases."""


def main() -> int:
    options = _options()
    chosen = [kind for kind in kinds() if not options.kinds or kind in options.kinds]
    if options.atheris:
        from tests.fuzz.coverage import run

        return run(chosen[0], options)
    for kind in chosen:
        for specimen in specimens(kind):
            with suppress(NnetError):  # batch-norm without statistics
                TARGETS[kind](specimen)  # loads what is loaded once
    return _report(*_run(chosen, options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="how long to run")
    parser.add_argument("--cases", type=int, default=0, help="how many cases; 0: as time allows")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices")
    parser.add_argument("--kinds", nargs="*", default=[], help=f"of {', '.join(kinds())}")
    parser.add_argument("--out", type=Path, help="folder for the inputs that fail")
    parser.add_argument("--atheris", action="store_true", help="guided by coverage, one kind")
    return parser.parse_args()


def case(kind: str, seed: int, number: int) -> bytes:
    """The input of a case, which depends on nothing else."""
    rng = random.Random(f"{seed} {kind} {number}")
    return mutated(rng, specimens(kind), text=kind.endswith(TEXTS) or kind in TEXTS)


TEXTS = ("_text", "config", "_proto", "edits", "scp", "strings")


def _run(
    chosen: list[str], options: argparse.Namespace
) -> tuple[Counter[str], dict[tuple[str, str], bytes]]:
    """Runs cases; how many of each kind, and one input for each way to fail."""
    counts: Counter[str] = Counter()
    failures: dict[tuple[str, str], bytes] = {}
    end = time.monotonic() + options.seconds
    number = 0
    while time.monotonic() < end and not (options.cases and counts.total() >= options.cases):
        for kind in chosen:
            for _ in range(1 if kind in SLOW else 10):
                data = case(kind, options.seed, counts[kind])
                wrong = outcome(TARGETS[kind], data, SECONDS)
                counts[kind] += 1
                if wrong is not None and (kind, _way(wrong)) not in failures:
                    failures[kind, _way(wrong)] = data
                    _show(kind, wrong, data, options.out)
        number += 1
    return counts, failures


def _way(wrong: str) -> str:
    """The kind of a failure and its place, without numbers."""
    return wrong.split(": ")[0]


def _show(kind: str, wrong: str, data: bytes, out: Path | None) -> None:
    name = f"{kind}-{hashlib.sha256(data).hexdigest()[:8]}.bin"
    print(f"{name}: {wrong!r}", flush=True)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)


def _report(counts: Counter[str], failures: dict[tuple[str, str], bytes]) -> int:
    print(f"{counts.total()} cases of {len(counts)} kinds, {len(failures)} ways to fail")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
