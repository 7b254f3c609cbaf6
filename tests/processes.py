"""Commands in processes of their own, which end at a chosen file operation.

The processes are forked from one that has imported what commands need, so that each is quick.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_loaded = [
    "torch._dynamo",  # which optimizers load
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "PIL.PngImagePlugin",
    "typer",
    "rich.progress",
    "nnet.training.trainer",
    "nnet.training.session",
    "nnet.training.input_transform",
    "nnet.training.reports.curves",
    "nnet.inference.segments",
]


def preload(module: str) -> None:
    """Has processes import a module before they are forked."""
    _loaded.append(module)
    multiprocessing.set_forkserver_preload(_loaded)


preload("tests.processes")

NOTICES = ("nnet: warning: ", "nnet: no native code")
FILE_OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod")
"""Audit events, before each of which a process may end."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: its exit status, negative after a signal.
        errors: its lines on standard error, without warnings.
        operations: how many file operations in the watched folder it began.
    """

    status: int
    errors: list[str]
    operations: int


def run_command(
    folder: Path,
    *words: object,
    number: int = signal.SIGKILL,
    at: int | None = None,
    file_size: int | None = None,
    deadly: bool = False,
) -> Ended:
    """Runs `nnet WORDS`.

    Args:
        folder: whose file operations are counted; it is not that of the output of this function.
        words: of the command line.
        number: of a signal.
        at: the file operation, from 0, before which the process gets the signal; None for none.
        file_size: bytes that a file can have, as on a full disk.
        deadly: whether writing more kills the process, by SIGXFSZ.
    """
    log = Path(tempfile.mkdtemp(prefix=f"{folder.name}.log.", dir=folder.parent))
    limit = (file_size, deadly)
    arguments = (str(folder), [str(word) for word in words], str(log), number, at, limit)
    process = multiprocessing.get_context("forkserver").Process(target=_work, args=arguments)
    process.start()
    process.join(120)
    assert process.exitcode is not None, "the command does not end"
    counted = (log / "operations").read_bytes()
    lines = (log / "stderr").read_text().splitlines()
    errors = [line for line in lines if not line.startswith(NOTICES)]
    return Ended(process.exitcode, errors, len(counted))


def _work(
    folder: str,
    words: list[str],
    log: str,
    number: int,
    at: int | None,
    limit: tuple[int | None, bool],
) -> None:
    import torch

    from nnet.commands.main import main

    torch.set_num_threads(1)
    for name, handle in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(f"{log}/{name}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY), handle)
    counter = os.open(f"{log}/operations", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    seen = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in FILE_OPERATIONS or not str(arguments[0]).startswith(folder + "/"):
            return
        seen += 1
        os.write(counter, b".")
        if at is not None and seen == at + 1:
            os.kill(os.getpid(), number)

    sys.addaudithook(watch)
    file_size, deadly = limit
    if file_size is not None:
        if deadly:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    main(words)
