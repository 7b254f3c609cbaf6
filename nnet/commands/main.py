"""The program `nnet`: finds the subcommand, prints errors as one message, sets the exit status."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from nnet.errors import NnetError, nearest
from nnet.process import Stopped, set_up_process, stop_at_signals

NO_PIPES = "--no-pipes"
OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
FIRST_LINE = re.compile(r'"""`nnet ([a-z-]+)`: (.+?)\.?(?:""")?$')


def commands() -> dict[str, str]:
    """All commands with their summaries.

    Each lives in the module of its name, whose first line says so; it is imported only when it is
    called.
    """
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        with path.open(encoding="utf-8") as file:
            described = FIRST_LINE.match(file.readline().rstrip())
        if described:
            found[described[1]] = described[2]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """`nnet COMMAND ...` or `nnet-COMMAND ...`. Exits with 0, or with 1 after one error.

    Ctrl-C and SIGTERM end it with one line and, as in a shell, 128 plus the signal's number.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if NO_PIPES in words:
        words.remove(NO_PIPES)
        os.environ["NNET_NO_PIPES"] = "1"  # for the processes that read data, too
    program = os.path.basename(sys.argv[0])
    if arguments is None and program.startswith("nnet-"):
        words.insert(0, program.removeprefix("nnet-"))
    try:
        with stop_at_signals():
            set_up_process()
            status = _run(words)
            sys.stdout.flush()
    except NnetError as error:
        print(f"nnet: {error}", file=sys.stderr)
        status = 1
    except BrokenPipeError:
        _leave_output()
        status = 1
    except OSError as error:
        if error.filename is not None or error.errno not in OUTPUT_ERRORS:
            raise
        print(f"nnet: standard output: cannot write: {error.strerror}", file=sys.stderr)
        _leave_output()
        status = 1
    except Stopped as stop:
        print(f"nnet: {stop}", file=sys.stderr)
        status = stop.status
    sys.exit(status)


def _leave_output() -> None:
    """Lets what is still to be written to standard output go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    known = commands()
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview(known))
        return 0
    name, *rest = words
    if name not in known:
        meant = nearest(name, known)
        hint = f"did you mean '{meant}'?" if meant else f"commands: {', '.join(known)}"
        raise NnetError(f"there is no command '{name}'; {hint}")
    import typer

    from nnet.commands.declare import command
    from nnet.commands.words import normalized

    identifier = name.replace("-", "_")
    described = command(getattr(import_module(f"nnet.commands.{identifier}"), identifier))
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(described.run)
    program = f"nnet {name}"
    try:
        app(normalized(rest, described.booleans, program), prog_name=program)
    except SystemExit as end:  # a wrong option is a user's mistake like any other
        return 1 if end.code else 0
    return 0


def _overview(known: dict[str, str]) -> str:
    width = max(map(len, known))
    lines = [f"  {name:{width}}  {summary}" for name, summary in known.items()]
    return "\n".join(
        (
            "usage: nnet COMMAND ...   (nnet COMMAND --help says more; nnet-COMMAND is the same)",
            "",
            *lines,
            "",
            "nnet --no-pipes COMMAND ... (or NNET_NO_PIPES=1) runs no shell commands in the place "
            "of files: for data of others",
        )
    )


if __name__ == "__main__":
    main()
