"""Fuzzing of one kind guided by coverage, with atheris (`pip install atheris`)."""

from __future__ import annotations

import argparse
import sys

from nnet.errors import NnetError
from tests.fuzz.guard import outcome
from tests.fuzz.specimens import specimens
from tests.fuzz.targets import TARGETS, folder


def run(kind: str, options: argparse.Namespace) -> int:
    """Runs until the time is over, or ends the process at the first case that fails."""
    try:
        import atheris
    except ImportError:
        raise NnetError("--atheris needs atheris; install it with: pip install atheris") from None

    corpus = folder() / "corpus"
    corpus.mkdir()
    for number, specimen in enumerate(specimens(kind)):
        TARGETS[kind](specimen)  # loads what is loaded once
        (corpus / str(number)).write_bytes(specimen)

    def one(data: bytes) -> None:
        wrong = outcome(TARGETS[kind], data)
        if wrong is not None:
            raise RuntimeError(wrong)

    atheris.instrument_all()
    arguments = [f"-max_total_time={options.seconds:.0f}", f"-seed={options.seed}"]
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        arguments.append(f"-artifact_prefix={options.out}/{kind}-")
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], one)
    atheris.Fuzz()
    return 0
